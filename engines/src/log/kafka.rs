//! Apache Kafka (being written).
