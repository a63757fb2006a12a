set -eu
for d in /tmp /run; do
	mkdir $d/t1 $d/t2
	mknod $d/t1/null c 1 3
	mknod $d/t1/tty c 5 0
	tar -C $d/t1 -cf $d/t.tar .
	tar -C $d/t2 -xf $d/t.tar
	stat -c %t,%T $d/t2/null
	rm -r $d/t1 $d/t2 $d/t.tar
done
stat -f -c %T /tmp /run
echo gone
