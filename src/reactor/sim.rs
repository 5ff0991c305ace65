//! A simulation: the same program on memory streams and an invented clock.

