// What a Java program sees and does that uses Kafka's own client with its defaults, and nothing of the toolkit.
//
//     java -cp 'jars/*' ForeignClient.java read  BROKERS TOPIC          prints partition, key, content type, value of every record
//     java -cp 'jars/*' ForeignClient.java write BROKERS TOPIC KEY ...  appends a record per key, prints partition and key

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class ForeignClient {
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[1]);
        if (arguments[0].equals("read")) {
            read(settings, arguments[2]);
        } else {
            write(settings, arguments[2], List.of(arguments).subList(3, arguments.length));
        }
    }

    private static void read(Properties settings, String topic) {
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            List<TopicPartition> partitions =
                consumer.partitionsFor(topic).stream().map(each -> new TopicPartition(topic, each.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (partitions.stream().anyMatch(each -> consumer.position(each) < ends.get(each))) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    Header content = record.headers().lastHeader("content-type");
                    String type = content == null ? "" : new String(content.value(), StandardCharsets.UTF_8);
                    OUT.println(record.partition() + "\t" + record.key() + "\t" + type + "\t" + record.value());
                }
            }
        }
    }

    private static void write(Properties settings, String topic, List<String> keys) throws Exception {
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (String key : keys) {
                OUT.println(producer.send(new ProducerRecord<>(topic, key, "{}")).get().partition() + "\t" + key);
            }
        }
    }
}
