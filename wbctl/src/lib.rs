//! Creates, inspects, drains and removes writeboost volumes.
