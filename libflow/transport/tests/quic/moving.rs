//! A client whose address changes, and a client's socket that the daemon points elsewhere.
