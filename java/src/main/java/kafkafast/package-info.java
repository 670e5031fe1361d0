/**
 * kafka-fast: a fast Kafka client. A {@link kafkafast.Producer} that any thread may feed at full speed, and
 * {@link kafkafast.Consumer}s that share work units instead of partitions.
 *
 * <p>The classes here are thin; the work is done by a native library that the jar carries. On JDK 24 and newer start Java with
 * {@code --enable-native-access=ALL-UNNAMED}.
 */
package kafkafast;
