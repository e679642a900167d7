//! Snapshots on a disk.
