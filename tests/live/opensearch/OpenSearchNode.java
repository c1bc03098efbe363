import org.codelibs.opensearch.runner.OpenSearchRunner;

/** One OpenSearch node on loopback, until it is killed: FOLDER HTTP_PORT TRANSPORT_PORT. */
public final class OpenSearchNode {
    public static void main(String[] arguments) throws Exception {
        OpenSearchRunner runner = new OpenSearchRunner();
        runner.onBuild((number, settings) -> {
            settings.put("http.port", arguments[1]);
            settings.put("transport.port", arguments[2]);
            settings.put("network.host", "127.0.0.1");
            settings.put("discovery.type", "single-node");
            settings.put("cluster.routing.allocation.disk.threshold_enabled", false);
        });
        runner.build(OpenSearchRunner.newConfigs().basePath(arguments[0]).numOfNode(1).useLogger());
        Thread.currentThread().join();
    }
}
