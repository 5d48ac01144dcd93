// peer_queue_java.java FIGURE - LinkedBlockingDeque used as a stack, and PriorityBlockingQueue: prints
// ns per item; `version` prints what runs it. The figures are those of bench_queue.c, which has the
// same loops.
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.LinkedBlockingDeque;
import java.util.concurrent.PriorityBlockingQueue;

class peer_queue_java {
    static final int PAIRS = 2;
    static final int CAPACITY = 1024;
    static final int ITEMS = 1000000;
    static final int WARM_UPS = 4;
    // The items, boxed beforehand: what is measured is the queue and not the garbage collector.
    static final Long[] keys = new Long[4096];

    interface Put {
        void put(Long item) throws InterruptedException;
    }

    interface Take {
        Long take() throws InterruptedException;
    }

    static void makeKeys() {
        long seed = 1;
        for (int i = 0; i < keys.length; i++) {
            seed = seed * 6364136223846793005L + 1442695040888963407L;
            keys[i] = seed >>> 24;
        }
    }

    static void produce(Put queue, int items) throws InterruptedException {
        for (int i = 0; i < items; i++)
            queue.put(keys[i % keys.length]);
    }

    static long consume(Take queue, int items) throws InterruptedException {
        long sum = 0;
        for (int i = 0; i < items; i++)
            sum += queue.take();
        return sum;
    }

    static Thread producer(Put queue, int items, CyclicBarrier start) {
        return new Thread(() -> {
            try {
                start.await();
                produce(queue, items);
            } catch (Exception exception) {
                throw new RuntimeException(exception);
            }
        });
    }

    static Thread consumer(Take queue, int items, CyclicBarrier start, long[] sum) {
        return new Thread(() -> {
            try {
                start.await();
                sum[0] = consume(queue, items);
            } catch (Exception exception) {
                throw new RuntimeException(exception);
            }
        });
    }

    static void check(long[][] sums, int each) {
        long sum = 0, expected = 0;
        for (long[] one : sums)
            sum += one[0];
        for (int i = 0; i < each; i++)
            expected += keys[i % keys.length] * PAIRS;
        if (sum != expected)
            throw new IllegalStateException("items got lost");
    }

    static double flow(Put put, Take take, int items) throws Exception {
        int each = items / PAIRS;
        CyclicBarrier start = new CyclicBarrier(2 * PAIRS + 1);
        Thread[] threads = new Thread[2 * PAIRS];
        long[][] sums = new long[PAIRS][16];
        for (int i = 0; i < PAIRS; i++) {
            threads[2 * i] = producer(put, each, start);
            threads[2 * i + 1] = consumer(take, each, start, sums[i]);
        }
        for (Thread thread : threads)
            thread.start();
        start.await();
        long began = System.nanoTime();
        for (Thread thread : threads)
            thread.join();
        long lasted = System.nanoTime() - began;
        check(sums, each);
        return (double) lasted / ((double) each * PAIRS);
    }

    static double lifo(int items) throws Exception {
        LinkedBlockingDeque<Long> stack = new LinkedBlockingDeque<>(CAPACITY);
        return flow(stack::putFirst, stack::takeFirst, items);
    }

    static double priority(int items) throws Exception {
        PriorityBlockingQueue<Long> queue = new PriorityBlockingQueue<>(CAPACITY); // then it grows
        return flow(queue::put, queue::take, items);
    }

    interface Run {
        double run(int items) throws Exception;
    }

    // The figure of a run after those in which the compiler has seen to all of it.
    static double warm(Run run) throws Exception {
        for (int i = 0; i < WARM_UPS; i++)
            run.run(ITEMS / 4);
        return run.run(ITEMS);
    }

    public static void main(String[] args) throws Exception {
        String figure = args.length > 0 ? args[0] : "";
        makeKeys();
        switch (figure) {
        case "version":
            System.out.println("java " + Runtime.version().feature());
            return;
        case "lifo_2p2c":
            System.out.printf("%.3f%n", warm(peer_queue_java::lifo));
            return;
        case "priority_2p2c":
            System.out.printf("%.3f%n", warm(peer_queue_java::priority));
            return;
        default:
            System.err.println("peer_queue_java: no figure '" + figure + "'");
            System.exit(2);
        }
    }
}
