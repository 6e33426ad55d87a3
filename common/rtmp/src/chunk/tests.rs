//! Reader and writer together.
