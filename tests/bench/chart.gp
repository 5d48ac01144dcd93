# chart.gp - draws build/bench.svg and build/bench.png from `rows` lines of the file `data`, as
# bench.h writes them; called by run.sh.
#
# A bar is ours / the peer's: left of the line at 1, ours is better. Figures in `_per_s`, where more
# is better, are turned round so that this holds for them as well.
set datafile separator "\t"

widest = 2.1 # longer bars are cut; the number beside them is not
turned(name) = strlen(name) > 6 && name[strlen(name) - 5:] eq "_per_s"
cost(name, ratio) = turned(name) ? 1 / ratio : ratio
cut(x) = x > widest ? widest : x
bar(name, ratio) = cut(cost(name, ratio))
missed(name, ratio, reach) = reach eq "nan" ? 0 : cost(name, ratio) > cost(name, reach + 0)
colour(name, ratio, reach) = missed(name, ratio, reach) ? 0xc0562f : \
    cost(name, ratio) > 1 ? 0xd9a441 : 0x3f8f5f
y(row) = rows - row

number(x) = x >= 100 || x == floor(x) ? sprintf("%.0f", x) : x >= 10 ? sprintf("%.1f", x) : \
    sprintf("%.2f", x)
beside(unit, ours, peer_name, peer, ratio) = sprintf("%.2f   %s %s, %s %s", ratio + 0, \
    number(ours + 0), unit, peer_name, number(peer + 0))
missing(ours, peer_name) = (ours eq "nan" ? "ours" : peer_name) . " is missing"
title_of(name) = turned(name) ? name . " (turned round)" : name

set title "mtask against its peers: ours / peer, medians; left of 1 ours is better" font ",14"
set key outside bottom left horizontal samplen 2 width 1
set xrange [0:widest * 1.6]
set yrange [0.3:rows + 0.8]
set xtics 0, 0.25, 2
set grid xtics lc rgb "#dddddd" lt 1
set border 1 lc rgb "#888888"
set ytics scale 0 textcolor rgb "black"
set xtics textcolor rgb "black"
set style fill solid 1.0 noborder
set arrow from 1, 0.3 to 1, rows + 0.6 nohead lc rgb "black" lw 1.5 front

set macros
bars = 'data using (0):(y($0)):(0):(bar(strcol(1), $6)):(y($0) - 0.36):(y($0) + 0.36):' \
    . '(colour(strcol(1), $6, strcol(7))):ytic(title_of(strcol(1))) with boxxyerror ' \
    . 'lc rgb variable notitle'
reach = 'data using (bar(strcol(1), $7)):(y($0) - 0.45):(0):(0.9) with vectors nohead ' \
    . 'lc rgb "#7a0f1a" lw 3 title "to reach"'
limit = 'data using (bar(strcol(1), $10 / $5)):(y($0)) with points pt 13 ps 1.1 ' \
    . 'lc rgb "#1b3f8b" title "known limit"'
spread = 'data using (bar(strcol(1), $8)):(y($0)):(bar(strcol(1), $9) - bar(strcol(1), $8)):(0)' \
    . ' with vectors nohead lc rgb "black" lw 1.5 title "middle half of the rounds"'
texts = 'data using (widest * 1.02):(y($0)):(strcol(6) eq "nan" ? ' \
    . 'missing(strcol(3), strcol(4)) : ' \
    . 'beside(strcol(2), strcol(3), strcol(4), strcol(5), strcol(6))) with labels left font ",10" notitle'
met = 'NaN with boxes lc rgb 0x3f8f5f title "better"'
near = 'NaN with boxes lc rgb 0xd9a441 title "not better"'
missed = 'NaN with boxes lc rgb 0xc0562f title "target missed"'

height = 26 * rows + 130
set terminal svg size 1180, height font "Sans,12" background rgb "white" noenhanced
set output "build/bench.svg"
plot @bars, @spread, @reach, @limit, @texts, @met, @near, @missed
set terminal pngcairo size 1180, height font "Sans,10" background rgb "white" noenhanced
set output "build/bench.png"
replot
