//! Segments on disk (being written).
