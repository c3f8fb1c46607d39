package wiremill;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A broker that a test owns: it may be killed and started again on the same data and address. */
final class Broker implements AutoCloseable {
    private static final List<String> UNUSED =
            List.of("aws", "redis", "pulsar", "registry", "rabbitmq-admin", "pulsar-admin");

    private final Path folder;
    private final List<String> extra;
    private String kafka = "127.0.0.1:0";
    private String nats = "127.0.0.1:0";
    private String amqp = "127.0.0.1:0";
    private String admin = "127.0.0.1:0";
    private Process process;

    Broker(Path folder, String... extra) throws Exception {
        this.folder = folder;
        this.extra = List.of(extra);
        start();
    }

    String kafka() {
        return kafka;
    }

    String nats() {
        return "nats://" + nats;
    }

    /** The URI of its AMQP listener. */
    String amqp() {
        return Kit.amqp(amqp);
    }

    String admin() {
        return "http://" + admin;
    }

    /** Runs the binary and returns when it is ready. */
    void start() throws Exception {
        Path ready = folder.resolve("ready.json");
        Files.deleteIfExists(ready);
        List<String> command = new ArrayList<>(List.of(
                Kit.need("WIREMILL_BIN"), "serve", "--data-dir", folder.resolve("data").toString(),
                "--ready-file", ready.toString(), "--listen", "kafka=" + kafka, "--listen", "nats=" + nats,
                "--listen", "amqp=" + amqp, "--listen", "admin=" + admin,
                "--kafka-initial-rebalance-delay-ms", "0"));
        UNUSED.forEach(name -> command.addAll(List.of("--listen", name + "=off")));
        command.addAll(extra);
        ProcessBuilder.Redirect log = ProcessBuilder.Redirect.appendTo(folder.resolve("broker.log").toFile());
        process = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(log).start();
        Kit.eventually("the broker is ready", () -> {
            if (!process.isAlive()) {
                throw new AssertionError("the broker ended before it was ready: " + log());
            }
            return Files.exists(ready);
        });
        String addresses = Files.readString(ready);
        kafka = address(addresses, "kafka");
        nats = address(addresses, "nats");
        amqp = address(addresses, "amqp");
        admin = address(addresses, "admin");
    }

    private static String address(String json, String name) {
        Matcher found = Pattern.compile("\"" + name + "\"\\s*:\\s*\"([^\"]+)\"").matcher(json);
        if (!found.find()) {
            throw new AssertionError("no " + name + " in " + json);
        }
        return found.group(1);
    }

    /** Ends the process at once. */
    void kill() throws InterruptedException {
        process.destroyForcibly();
        if (!process.waitFor(Kit.PATIENCE.toSeconds(), TimeUnit.SECONDS)) {
            throw new AssertionError("the broker outlived its kill");
        }
    }

    private String log() throws IOException {
        return Files.readString(folder.resolve("broker.log"));
    }

    @Override
    public void close() throws InterruptedException {
        kill();
    }
}
