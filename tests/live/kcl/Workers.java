// Workers of the Kinesis Client Library, its default settings but for endpoints and shorter intervals. They say what
// they do, a line each: "MICROSECONDS APPLICATION WORKER begin|record|end|lost SHARD [SEQUENCE_NUMBER DATA]".
// Arguments: Kinesis endpoint, DynamoDB endpoint, stream, then APPLICATION/WORKER/polling|fanout for each worker.
// The package is the library's own for one method: where its table is empty a worker waits up to 30 s at random, so
// that not all of a fleet begin at once, and only the library's own tests may cut that short.
package software.amazon.kinesis.coordinator;

import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.checkpoint.CheckpointConfig;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.common.KinesisClientUtil;
import software.amazon.kinesis.common.StreamIdentifier;
import software.amazon.kinesis.leases.LeaseManagementConfig;
import software.amazon.kinesis.lifecycle.LifecycleConfig;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.MetricsConfig;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.ProcessorConfig;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.KinesisClientRecord;
import software.amazon.kinesis.retrieval.RetrievalConfig;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

public class Workers {
    static final StaticCredentialsProvider ANY =
            StaticCredentialsProvider.create(AwsBasicCredentials.create("any", "credentials"));

    public static void main(String[] arguments) {
        URI kinesis = URI.create(arguments[0]);
        URI dynamo = URI.create(arguments[1]);
        for (int at = 3; at < arguments.length; at++) {
            String[] parts = arguments[at].split("/");
            Scheduler worker = worker(kinesis, dynamo, arguments[2], parts[0], parts[1], parts[2].equals("fanout"));
            new Thread(worker, arguments[at]).start();
        }
    }

    static Scheduler worker(URI endpoint, URI tables, String stream, String application, String name, boolean fanOut) {
        KinesisAsyncClient kinesis = KinesisClientUtil.createKinesisAsyncClient(
                KinesisAsyncClient.builder().endpointOverride(endpoint).region(Region.US_EAST_1).credentialsProvider(ANY));
        DynamoDbAsyncClient dynamo = DynamoDbAsyncClient.builder()
                .endpointOverride(tables).region(Region.US_EAST_1).credentialsProvider(ANY).build();
        CloudWatchAsyncClient nobody = CloudWatchAsyncClient.builder()
                .endpointOverride(tables).region(Region.US_EAST_1).credentialsProvider(ANY).build();
        SingleStreamTracker from = new SingleStreamTracker(
                StreamIdentifier.singleStreamInstance(stream),
                InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON));
        ConfigsBuilder said = new ConfigsBuilder(
                from, application, kinesis, dynamo, nobody, name, () -> new Processor(application + " " + name));
        LeaseManagementConfig leases = said.leaseManagementConfig()
                .failoverTimeMillis(2000).shardSyncIntervalMillis(1000).leasesRecoveryAuditorExecutionFrequencyMillis(1000);
        leases.workerUtilizationAwareAssignmentConfig().inMemoryWorkerMetricsCaptureFrequencyMillis(500);
        leases.workerUtilizationAwareAssignmentConfig().workerMetricsReporterFreqInMillis(1000);
        CoordinatorConfig coordinator = said.coordinatorConfig()
                .parentShardPollIntervalMillis(500).shardConsumerDispatchPollIntervalMillis(200);
        RetrievalConfig retrieval = said.retrievalConfig();
        if (!fanOut) {
            retrieval.retrievalSpecificConfig(new PollingConfig(stream, kinesis).idleTimeBetweenReadsInMillis(500));
        }
        MetricsConfig metrics = said.metricsConfig().metricsFactory(new NullMetricsFactory());
        return new Eager(said.checkpointConfig(), coordinator, leases, said.lifecycleConfig(), metrics,
                said.processorConfig(), retrieval);
    }

    static class Eager extends Scheduler {
        Eager(CheckpointConfig checkpoints, CoordinatorConfig coordinator, LeaseManagementConfig leases,
                LifecycleConfig lifecycle, MetricsConfig metrics, ProcessorConfig processor, RetrievalConfig retrieval) {
            super(checkpoints, coordinator, leases, lifecycle, metrics, processor, retrieval);
        }

        @Override
        boolean shouldInitiateLeaseSync() {
            return true;
        }
    }

    static class Processor implements ShardRecordProcessor {
        final String who;
        String shard;

        Processor(String who) {
            this.who = who;
        }

        void say(String what) {
            synchronized (System.out) {
                System.out.println(ChronoUnit.MICROS.between(Instant.EPOCH, Instant.now()) + " " + who + " " + what);
                System.out.flush();
            }
        }

        @Override
        public void initialize(InitializationInput input) {
            shard = input.shardId();
            say("begin " + shard);
        }

        @Override
        public void processRecords(ProcessRecordsInput input) {
            List<String> lines = new ArrayList<>();
            for (KinesisClientRecord record : input.records()) {
                String data = StandardCharsets.UTF_8.decode(record.data()).toString();
                lines.add("record " + shard + " " + record.sequenceNumber() + " " + data);
            }
            lines.forEach(this::say);
            try {
                if (!lines.isEmpty()) {
                    input.checkpointer().checkpoint();
                }
            } catch (Exception failure) {
                say("failed " + shard + " " + failure);
            }
        }

        @Override
        public void leaseLost(LeaseLostInput input) {
            say("lost " + shard);
        }

        @Override
        public void shardEnded(ShardEndedInput input) {
            say("end " + shard);
            try {
                input.checkpointer().checkpoint();
            } catch (Exception failure) {
                say("failed " + shard + " " + failure);
            }
        }

        @Override
        public void shutdownRequested(ShutdownRequestedInput input) {}
    }
}
