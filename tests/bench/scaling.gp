# scaling.gp - draws build/pool_scaling.svg and .png from build/bench/pool_scaling.tsv, which
# bench_pool.c writes: how long things take with 1, 2, 3 ... workers; called by run.sh.
set datafile separator "\t"
data = "build/bench/pool_scaling.tsv"
stats data using 1 nooutput
workers = STATS_max
first(column) = word(system(sprintf("grep -v '#' %s | head -n 1 | cut -f%d", data, column)), 1) + 0

set logscale xy 2
set xrange [0.9:workers * 1.1]
set xtics 1, 2, workers
set xlabel "workers"
set grid lc rgb "#dddddd" lt 1
set border 3 lc rgb "#888888"
set tics nomirror textcolor rgb "black"
set key bottom left samplen 2

set macros
ours = 'lw 2.5 pt 7 lc rgb "#3f8f5f" title "mtask"'
peer = 'lw 2.5 pt 5 lc rgb "#c0562f" title "oneTBB"'
ideal = 'lw 1 dt 2 lc rgb "#1b3f8b" title "ideal: 1/workers of mtask with one"'
draw = 'set multiplot layout 1, 2;' \
    . 'set title "forkjoin fib: ns per task, lower is better"; a = first(2);' \
    . 'plot a / x @ideal, data using 1:3 with linespoints @peer, "" using 1:2 with linespoints @ours;' \
    . 'set title "10,000 uneven tasks: ms, lower is better"; a = first(4) * 1000;' \
    . 'plot a / x @ideal, data using 1:($5 * 1000) with linespoints @peer, "" using 1:($4 * 1000) with linespoints @ours;' \
    . 'unset multiplot'
set terminal svg size 1180, 460 font "Sans,12" background rgb "white" noenhanced
set output "build/pool_scaling.svg"
@draw
set terminal pngcairo size 1180, 460 font "Sans,10" background rgb "white" noenhanced
set output "build/pool_scaling.png"
@draw
