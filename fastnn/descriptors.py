"""A problem, checked and measured once: frozen descriptors made from shapes and options.

Output sizes, operation counts and byte counts live here and nowhere else; ops, reference, kernels, tests and bench
all read them. Making a descriptor raises ValueError, naming the argument, for options that do not fit the shapes.
Descriptors are cached, so that a repeated call pays for its checks once.
"""
