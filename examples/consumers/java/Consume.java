import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.math.BigDecimal;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.avro.Conversions;
import org.apache.avro.Schema;
import org.apache.avro.data.TimeConversions;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ApiException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Prints the records of billbus topics, one JSON line a record: java -cp 'lib/*' Consume.java DAY TOPIC...
 *
 * <p>DAY is where a group begins that never read before: a date (midnight UTC) or an instant with its offset,
 * such as 2026-11-20T00:00:00-06:00. A group that did read goes on where it ended.
 * Environment: KAFKA, REGISTRY, GROUP; KAFKA_USER, KAFKA_PASSWORD and KAFKA_CA where the brokers ask for them.
 */
public class Consume {
    static final String KAFKA = System.getenv().getOrDefault("KAFKA", "127.0.0.1:19092");
    static final String REGISTRY =
            System.getenv().getOrDefault("REGISTRY", "http://127.0.0.1:18081/apis/ccompat/v7");
    static final String GROUP = System.getenv().getOrDefault("GROUP", "another-team-in-java");
    static final Duration LIMIT = Duration.ofSeconds(20);
    static final DateTimeFormatter MILLIS =
            DateTimeFormatter.ofPattern("uuuu-MM-dd'T'HH:mm:ss.SSS'Z'").withZone(ZoneOffset.UTC);

    public static void main(String[] args) throws Exception {
        if (args.length < 2) {
            System.err.println("Consume DAY TOPIC...");
            System.exit(1);
        }
        var settings = new HashMap<String, Object>(Map.of(
                "bootstrap.servers", KAFKA,
                "group.id", GROUP,
                "key.deserializer", StringDeserializer.class,
                "value.deserializer", ByteArrayDeserializer.class,
                "enable.auto.commit", false, // below, when the records are printed
                "auto.offset.reset", "none")); // an offset that is gone is a person's affair
        settings.putAll(login(System.getenv()));
        var consumer = new KafkaConsumer<String, byte[]>(settings);
        var stopped = new AtomicBoolean();
        var reading = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stopped.set(true);
            try {
                reading.join(LIMIT.toMillis());
            } catch (InterruptedException interrupted) {
                reading.interrupt();
            }
        }));
        try (consumer) {
            var topics = List.of(args).subList(1, args.length);
            consumer.subscribe(topics, new Beginning(consumer, since(args[0])));
            var lines = new Lines();
            while (!stopped.get()) {
                var records = consumer.poll(Duration.ofMillis(500));
                for (var record : records) {
                    System.out.println(lines.of(record));
                }
                if (!records.isEmpty()) {
                    consumer.commitSync(); // at least once: first the effect, then the commit
                }
            }
        } catch (ApiException refused) {
            // it has no trace of its own, which the launcher of single files stumbles over
            throw new IOException(refused.getMessage(), refused);
        }
    }

    /** How one gets in, where the brokers ask who comes. */
    static Map<String, String> login(Map<String, String> environment) {
        var settings = new HashMap<String, String>();
        if (environment.containsKey("KAFKA_USER")) {
            settings.put("security.protocol", "SASL_SSL");
            settings.put("sasl.mechanism", "SCRAM-SHA-512");
            settings.put("sasl.jaas.config", String.format(
                    "org.apache.kafka.common.security.scram.ScramLoginModule required username=%s password=%s;",
                    quoted(environment.get("KAFKA_USER")), quoted(environment.get("KAFKA_PASSWORD"))));
        }
        if (environment.containsKey("KAFKA_CA")) {
            settings.put("ssl.truststore.type", "PEM");
            settings.put("ssl.truststore.location", environment.get("KAFKA_CA"));
        }
        return settings;
    }

    static String quoted(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }

    static long since(String day) {
        return day.length() == "2026-11-20".length()
                ? LocalDate.parse(day).atStartOfDay(ZoneOffset.UTC).toInstant().toEpochMilli()
                : OffsetDateTime.parse(day).toInstant().toEpochMilli();
    }

    /** Where to read from: where the group ended, else the day's first record, else what comes next. */
    record Beginning(KafkaConsumer<?, ?> consumer, long since) implements ConsumerRebalanceListener {
        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> assigned) {
            var committed = consumer.committed(Set.copyOf(assigned));
            var days = new HashMap<TopicPartition, Long>();
            assigned.stream().filter(p -> committed.get(p) == null).forEach(p -> days.put(p, since));
            // the ends are asked for before the day, so that no record slips in between
            var ends = consumer.endOffsets(days.keySet());
            consumer.offsetsForTimes(days).forEach((partition, found) ->
                    consumer.seek(partition, found == null ? ends.get(partition) : found.offset()));
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> revoked) {} // what was read is committed
    }

    /** Reads the Confluent wire format: a zero, the schema's id, the Avro body. */
    static class Lines {
        final HttpClient http = HttpClient.newHttpClient();
        final ObjectMapper json = new ObjectMapper();
        final Map<Integer, GenericDatumReader<GenericRecord>> readers = new HashMap<>();
        final GenericData types = new GenericData();

        Lines() {
            types.addLogicalTypeConversion(new Conversions.DecimalConversion()); // BigDecimal
            types.addLogicalTypeConversion(new TimeConversions.DateConversion()); // LocalDate
            types.addLogicalTypeConversion(new TimeConversions.TimestampMillisConversion()); // Instant
        }

        String of(ConsumerRecord<String, byte[]> record) throws IOException {
            var line = new LinkedHashMap<String, Object>();
            line.put("topic", record.topic());
            line.put("partition", record.partition());
            line.put("offset", record.offset());
            line.put("key", record.key());
            line.put("id", header(record, "ce_id"));
            line.put("time", header(record, "ce_time"));
            try {
                // null in a compacted topic: the key is gone
                line.put("value", record.value() == null ? null : text(decode(record.value())));
            } catch (IOException | RuntimeException problem) {
                var place = "%s, partition %d, offset %d".formatted(
                        record.topic(), record.partition(), record.offset());
                throw new IOException(place + " cannot be read: " + problem.getMessage(), problem);
            }
            return json.writeValueAsString(line);
        }

        static String header(ConsumerRecord<?, ?> record, String name) {
            var found = record.headers().lastHeader(name);
            return found == null ? null : new String(found.value(), StandardCharsets.UTF_8);
        }

        GenericRecord decode(byte[] value) throws IOException {
            var buffer = ByteBuffer.wrap(value);
            if (value.length < 5 || buffer.get() != 0) {
                throw new IOException("not in the Confluent wire format");
            }
            var reader = reader(buffer.getInt());
            return reader.read(null, DecoderFactory.get().binaryDecoder(value, 5, value.length - 5, null));
        }

        GenericDatumReader<GenericRecord> reader(int id) throws IOException {
            if (!readers.containsKey(id)) {
                var address = URI.create(REGISTRY + "/schemas/ids/" + id);
                var request = HttpRequest.newBuilder(address).timeout(LIMIT).build();
                try {
                    var reply = http.send(request, HttpResponse.BodyHandlers.ofString());
                    if (reply.statusCode() != 200) {
                        throw new IOException("the registry answers " + reply.statusCode());
                    }
                    var text = json.readTree(reply.body()).get("schema").asText();
                    var schema = new Schema.Parser().parse(text);
                    readers.put(id, new GenericDatumReader<>(schema, schema, types));
                } catch (InterruptedException interrupted) {
                    throw new IOException(interrupted);
                }
            }
            return readers.get(id);
        }

        /** Money with its cents, a day, an instant in UTC with its milliseconds. */
        static Object text(Object value) {
            if (value instanceof GenericRecord record) {
                var fields = new LinkedHashMap<String, Object>();
                record.getSchema().getFields().forEach(f -> fields.put(f.name(), text(record.get(f.pos()))));
                return fields;
            }
            if (value instanceof Collection<?> items) {
                return items.stream().map(Lines::text).toList();
            }
            if (value instanceof Instant instant) {
                return MILLIS.format(instant);
            }
            if (value instanceof BigDecimal money) {
                return money.toPlainString();
            }
            var asItIs = value == null || value instanceof Number || value instanceof Boolean;
            return asItIs ? value : value.toString();
        }
    }
}
