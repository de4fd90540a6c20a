//! Who a host is: its key, the certificates it issues to the programs that serve names on it, and how they are checked.
