//! Real brokers and faulty networks for tests.
