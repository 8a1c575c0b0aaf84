//! Built-in architectures.
