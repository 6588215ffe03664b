//! Tests of the extension.
