// peer_pool_java.java FIGURE - ForkJoinPool and the fixed thread pool: prints ns per task, or us for
// future_roundtrip; `version` prints what runs it. The figures are those of bench_pool.c, which has
// the same loops.
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.Future;
import java.util.concurrent.RecursiveAction;

class peer_pool_java {
    static final int FIB_N = 30, FIB_RESULT = 832040, FIB_TASKS = 1346268, FIB_REPEATS = 5;
    static final int EMPTY_TASKS = 1000000;
    static final int BATCH = 100000, BATCHES = 5;
    static final int ROUNDTRIPS = 50000;
    static final int WARM_UPS = 4;

    // The result lies in a field: a RecursiveTask<Integer> would make an object of each.
    static class Fib extends RecursiveAction {
        final int n;
        int result;

        Fib(int n) {
            this.n = n;
        }

        @Override
        protected void compute() {
            if (n < 2) {
                result = n;
                return;
            }
            Fib a = new Fib(n - 1), b = new Fib(n - 2);
            a.fork();
            b.compute();
            a.join();
            result = a.result + b.result;
        }
    }

    static int workers() {
        String text = System.getenv("MTASK_BENCH_WORKERS");
        return text != null ? Integer.parseInt(text) : 2;
    }

    static void expect(long got, long expected) {
        if (got != expected)
            throw new IllegalStateException("a wrong result");
    }

    static double fibs(ForkJoinPool pool, int repeats) {
        long began = System.nanoTime();
        for (int i = 0; i < repeats; i++) {
            Fib fib = new Fib(FIB_N);
            pool.invoke(fib);
            expect(fib.result, FIB_RESULT);
        }
        return (System.nanoTime() - began) / (double) repeats / FIB_TASKS;
    }

    static double forkjoinFib() {
        ForkJoinPool pool = new ForkJoinPool(workers());
        for (int i = 0; i < WARM_UPS; i++)
            fibs(pool, 2);
        return fibs(pool, FIB_REPEATS);
    }

    static double empty(ExecutorService pool, int tasks) throws Exception {
        CountDownLatch latch = new CountDownLatch(tasks);
        long began = System.nanoTime();
        for (int i = 0; i < tasks; i++)
            pool.execute(latch::countDown);
        latch.await();
        return (System.nanoTime() - began) / (double) tasks;
    }

    static double batches(ExecutorService pool, int batches) throws Exception {
        long began = System.nanoTime();
        for (int k = 0; k < batches; k++) {
            List<Future<Integer>> futures = new ArrayList<>(BATCH);
            for (int i = 0; i < BATCH; i++)
                futures.add(pool.submit(() -> 1));
            long sum = 0;
            for (Future<Integer> future : futures)
                sum += future.get();
            expect(sum, BATCH);
        }
        return (System.nanoTime() - began) / (double) batches / BATCH;
    }

    static double roundtrips(ExecutorService pool, int count) throws Exception {
        long sum = 0, began = System.nanoTime();
        for (int i = 0; i < count; i++)
            sum += pool.submit(() -> 1).get();
        double lasted = System.nanoTime() - began;
        expect(sum, count);
        return lasted / count / 1000;
    }

    interface Run {
        double run(ExecutorService pool, int count) throws Exception;
    }

    // The figure of a run after those in which the compiler has seen to all of it.
    static double warm(Run run, int count, int few) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(workers());
        for (int i = 0; i < WARM_UPS; i++)
            run.run(pool, few);
        double figure = run.run(pool, count);
        pool.shutdown();
        return figure;
    }

    public static void main(String[] args) throws Exception {
        String figure = args.length > 0 ? args[0] : "";
        switch (figure) {
        case "version":
            System.out.println("java " + Runtime.version().feature());
            return;
        case "forkjoin_fib":
            System.out.printf("%.3f%n", forkjoinFib());
            return;
        case "submit_empty":
            System.out.printf("%.3f%n", warm(peer_pool_java::empty, EMPTY_TASKS, EMPTY_TASKS / 4));
            return;
        case "submit_future":
            System.out.printf("%.3f%n", warm(peer_pool_java::batches, BATCHES, 1));
            return;
        case "future_roundtrip":
            System.out.printf("%.3f%n",
                warm(peer_pool_java::roundtrips, ROUNDTRIPS, ROUNDTRIPS / 4));
            return;
        default:
            System.err.println("peer_pool_java: no figure '" + figure + "'");
            System.exit(2);
        }
    }
}
