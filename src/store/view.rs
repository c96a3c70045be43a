//! Segments as they were listed last.
