set -eu
script -qec "stty rows 33 cols 99; $RUN -it busybox:test sh -c 'tty; sleep 1; stty size'" /dev/null |
	tr -d '\r\000'
