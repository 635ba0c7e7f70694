//! Creates, inspects, drains and removes volumes.
fn main() {}
