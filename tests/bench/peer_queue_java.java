// peer_queue_java.java FIGURE - LinkedBlockingDeque used as a stack, and PriorityBlockingQueue:
// prints ns per item; `version` prints what runs it. The figures are those of bench_queue.c, which
// has the same loops.
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.LinkedBlockingDeque;
import java.util.concurrent.PriorityBlockingQueue;

class peer_queue_java {
    static final int PAIRS = 2;
    static final int CAPACITY = 1024;
    static final int ITEMS = 1 << 20;
    static final int WARM_UPS = 4;
    // The items, boxed beforehand: what is measured is the queue and not the garbage collector. Few
    // for the stack; for the heap, which compares what is in them, one for each of a producer's.
    static Long[] keys;

    interface Put {
        void put(Long item) throws InterruptedException;
    }

    interface Take {
        Long take() throws InterruptedException;
    }

    static void makeKeys(int count) {
        keys = new Long[count];
        long seed = 1;
        for (int i = 0; i < keys.length; i++) {
            seed = seed * 6364136223846793005L + 1442695040888963407L;
            keys[i] = seed >>> 24;
        }
    }

    static void produce(Put queue, int items) throws InterruptedException {
        for (int i = 0; i < items; i++)
            queue.put(keys[i & (keys.length - 1)]);
    }

    static long consume(Take queue, int items) throws InterruptedException {
        long sum = 0;
        for (int i = 0; i < items; i++)
            sum += queue.take();
        return sum;
    }

    // Each takes its own time: main may get to run much later.
    static class Mover extends Thread {
        final Put put; // of a producer
        final Take take; // of a consumer
        final int items;
        final CyclicBarrier start;
        long sum, began, ended;

        Mover(Put put, Take take, int items, CyclicBarrier start) {
            this.put = put;
            this.take = take;
            this.items = items;
            this.start = start;
        }

        @Override
        public void run() {
            try {
                start.await();
                began = System.nanoTime();
                if (put != null)
                    produce(put, items);
                else
                    sum = consume(take, items);
                ended = System.nanoTime();
            } catch (Exception exception) {
                throw new RuntimeException(exception);
            }
        }
    }

    static void check(Mover[] movers, int each) {
        long sum = 0, expected = 0;
        for (Mover mover : movers)
            sum += mover.sum;
        for (int i = 0; i < each; i++)
            expected += keys[i & (keys.length - 1)] * PAIRS;
        if (sum != expected)
            throw new IllegalStateException("items got lost");
    }

    static double flow(Put put, Take take, int items) throws Exception {
        int each = items / PAIRS;
        CyclicBarrier start = new CyclicBarrier(2 * PAIRS);
        Mover[] movers = new Mover[2 * PAIRS];
        for (int i = 0; i < PAIRS; i++) {
            movers[2 * i] = new Mover(put, null, each, start);
            movers[2 * i + 1] = new Mover(null, take, each, start);
        }
        for (Mover mover : movers)
            mover.start();
        for (Mover mover : movers)
            mover.join();
        check(movers, each);
        long began = movers[0].began, ended = movers[0].ended;
        for (Mover mover : movers) {
            began = Math.min(began, mover.began);
            ended = Math.max(ended, mover.ended);
        }
        return (ended - began) / ((double) each * PAIRS);
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
        switch (figure) {
        case "version":
            System.out.println("java " + Runtime.version().feature());
            return;
        case "lifo_2p2c":
            makeKeys(4096);
            System.out.printf("%.3f%n", warm(peer_queue_java::lifo));
            return;
        case "priority_2p2c":
            makeKeys(ITEMS / PAIRS);
            System.out.printf("%.3f%n", warm(peer_queue_java::priority));
            return;
        default:
            System.err.println("peer_queue_java: no figure '" + figure + "'");
            System.exit(2);
        }
    }
}
