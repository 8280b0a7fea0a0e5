"""The operators' specs, one module a family, each with a tuple SPECS of `fastnn.registry.OpSpec`."""
