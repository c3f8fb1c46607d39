package wiremill;

import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/** What a test demonstrates, for the compatibility page. */
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.METHOD)
@interface Shows {
    String value();

    String client() default "kafka-clients";

    /** The protocol that the client speaks. */
    String protocol() default "Kafka";

    /** The system property with the client's version, as the build file pins it. */
    String version() default "kafka.version";
}
