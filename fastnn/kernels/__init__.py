"""Compiled loop nests (Cython): tiles, scratch memory, threads. Arguments have been checked by `fastnn.ops`."""
