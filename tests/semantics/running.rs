//! run_all, turn, spawn, stop.
