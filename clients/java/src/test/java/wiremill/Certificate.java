package wiremill;

import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.Key;
import java.security.KeyStore;
import java.util.Base64;
import java.util.List;

/** A certificate for 127.0.0.1 that signs itself, in the forms that the broker and its clients read. */
record Certificate(Path certificate, Path key) {
    private static final char[] PASSWORD = "changeit".toCharArray();

    static Certificate make(Path folder) throws Exception {
        Path store = folder.resolve("keystore.p12");
        Path keytool = Path.of(System.getProperty("java.home"), "bin", "keytool");
        Process process = new ProcessBuilder(List.of(
                        keytool.toString(), "-genkeypair", "-alias", "wiremill", "-keyalg", "RSA", "-keysize", "2048",
                        "-dname", "CN=localhost", "-ext", "san=ip:127.0.0.1,dns:localhost", "-validity", "2",
                        "-storetype", "PKCS12", "-keystore", store.toString(), "-storepass", new String(PASSWORD)))
                .redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.DISCARD)
                .start();
        if (process.waitFor() != 0) {
            throw new AssertionError("keytool ended with " + process.exitValue());
        }
        KeyStore keys = KeyStore.getInstance("PKCS12");
        try (InputStream file = Files.newInputStream(store)) {
            keys.load(file, PASSWORD);
        }
        Key key = keys.getKey("wiremill", PASSWORD);
        return new Certificate(
                write(folder.resolve("certificate.pem"), "CERTIFICATE", keys.getCertificate("wiremill").getEncoded()),
                write(folder.resolve("key.pem"), "PRIVATE KEY", key.getEncoded()));
    }

    private static Path write(Path file, String label, byte[] content) throws Exception {
        String body = Base64.getMimeEncoder(64, "\n".getBytes(StandardCharsets.US_ASCII)).encodeToString(content);
        return Files.writeString(file, "-----BEGIN " + label + "-----\n" + body + "\n-----END " + label + "-----\n");
    }
}
