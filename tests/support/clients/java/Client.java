import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * A Java client of hbtd: java Client.java URL AUTHORITY.
 *
 * <p>It sends heartbeats and asks for the parameters and for a state, all of it twice, and prints
 * what it has seen, a line for each request. It would rather speak HTTP/2.
 */
public class Client {
  private static final String BEAT =
      "{\"Component\":\"x1000c0s0b0n0\",\"Hostname\":\"n\",\"NID\":\"1\",\"Status\":\"OK\","
          + "\"Timestamp\":\"2026-11-23T00:00:00Z\"}";

  private static final String[][] REQUESTS = {
    {"POST", "/hmi/v1/heartbeat", BEAT},
    {"GET", "/hmi/v1/params", ""},
    {"POST", "/hmi/v1/heartbeat", BEAT},
    {"GET", "/hmi/v1/hbstate/x1000c0s0b0n0", ""},
    {"GET", "/hmi/v1/openapi.json", ""},
  };

  public static void main(String[] arguments) throws Exception {
    KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
    trusted.load(null, null);
    try (FileInputStream file = new FileInputStream(arguments[1])) {
      trusted.setCertificateEntry(
          "authority", CertificateFactory.getInstance("X.509").generateCertificate(file));
    }
    TrustManagerFactory managers =
        TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    managers.init(trusted);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, managers.getTrustManagers(), null);
    HttpClient client =
        HttpClient.newBuilder().version(HttpClient.Version.HTTP_2).sslContext(context).build();
    for (int round = 0; round < 2; round++) {
      for (String[] each : REQUESTS) {
        HttpRequest.BodyPublisher body =
            each[2].isEmpty() ? BodyPublishers.noBody() : BodyPublishers.ofString(each[2]);
        HttpRequest request =
            HttpRequest.newBuilder(URI.create(arguments[0] + each[1])).method(each[0], body).build();
        HttpResponse<byte[]> response = client.send(request, BodyHandlers.ofByteArray());
        System.out.printf(
            "%s %s: %d %s, %s, %b%n",
            each[0],
            each[1],
            response.statusCode(),
            response.version(),
            response.sslSession().get().getProtocol(),
            response.body().length > 0);
      }
    }
  }
}
