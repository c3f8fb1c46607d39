package wiremill;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** Command line tools, each in a process of its own: Apache's, and the broker's. */
final class Tools {
    private Tools() {}

    /** Runs one of Apache's tools and returns what it printed. */
    static String apache(String main, String input, String... arguments) throws Exception {
        List<String> command = new ArrayList<>(List.of(
                ProcessHandle.current().info().command().orElse("java"), "-XX:TieredStopAtLevel=1", "-Xmx256m",
                "-cp", System.getProperty("java.class.path"), main));
        command.addAll(List.of(arguments));
        return run(command, input);
    }

    /** Runs the broker's own command line against its admin listener, and reads the answer. */
    static JsonNode wiremill(String admin, String... arguments) throws Exception {
        List<String> command = new ArrayList<>(List.of(Kit.need("WIREMILL_BIN")));
        command.addAll(List.of(arguments));
        command.addAll(List.of("--admin", admin, "--json"));
        return new ObjectMapper().readTree(run(command, ""));
    }

    private static String run(List<String> command, String input) throws IOException, InterruptedException {
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        try (var stdin = process.getOutputStream()) {
            stdin.write(input.getBytes(StandardCharsets.UTF_8));
        }
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        if (!process.waitFor(Kit.PATIENCE.toSeconds(), TimeUnit.SECONDS)) {
            process.destroyForcibly();
            throw new AssertionError("did not end: " + command);
        }
        if (process.exitValue() != 0) {
            throw new AssertionError("ended with " + process.exitValue() + ": " + command + "\n" + output);
        }
        return output;
    }
}
