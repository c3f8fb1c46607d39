package wiremill;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Optional;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.TestWatcher;

/** Writes a result line for each test that shows something. */
public final class ResultLines implements TestWatcher {
    @Override
    public void testSuccessful(ExtensionContext context) {
        write(context, "passed");
    }

    @Override
    public void testFailed(ExtensionContext context, Throwable cause) {
        write(context, "failed");
    }

    private static synchronized void write(ExtensionContext context, String result) {
        Optional<Shows> shows = context.getTestMethod().map(method -> method.getAnnotation(Shows.class));
        String folder = System.getenv("WIREMILL_RESULTS");
        if (shows.isEmpty() || folder == null) {
            return;
        }
        String line = String.format(
                "{\"protocol\":\"%s\",\"capability\":\"%s\",\"client\":\"%s\",\"version\":\"%s\",\"result\":\"%s\"}%n",
                shows.get().protocol(), shows.get().value(), shows.get().client(),
                System.getProperty(shows.get().version()), result);
        Path file = Path.of(folder, "java-" + ProcessHandle.current().pid() + ".jsonl");
        try {
            Files.writeString(file, line, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
