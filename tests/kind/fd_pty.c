// SPDX-License-Identifier: GPL-2.0-only
/* Pseudo-terminals: settings, sizes, packet mode, locks, and what is queued in both directions. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <termios.h>

struct pair {
	int master, slave;
};

static int unlock(int master)
{
	return ioctl(master, TIOCSPTLCK, &(int) { 0 });
}

static struct pair make(int flags)
{
	struct pair p;

	p.master = (int)MUST(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK));
	MUST(unlock(p.master));
	p.slave = (int)MUST(ioctl(p.master, TIOCGPTPEER, O_RDWR | O_NOCTTY | flags));
	return p;
}

static void raw(int fd)
{
	struct termios t;

	MUST(tcgetattr(fd, &t));
	cfmakeraw(&t);
	t.c_cc[VMIN] = 3;
	t.c_cc[VTIME] = 7;
	MUST(tcsetattr(fd, TCSANOW, &t));
}

static bool reads(int fd, const char *text)
{
	char buf[256];
	ssize_t n = read(fd, buf, sizeof(buf));

	if (n == (ssize_t)strlen(text) && !memcmp(buf, text, (size_t)n))
		return true;
	fprintf(stderr, "read %zd \"%.*s\", not \"%s\"\n", n, n > 0 ? (int)n : 0, buf, text);
	return false;
}

int main(int argc, char **argv)
{
	struct pair cooked, rawp, packet, lines, hung, half;
	struct winsize ws = { .ws_row = 33, .ws_col = 111, .ws_xpixel = 3, .ws_ypixel = 4 }, got;
	struct termios t_cooked = { 0 }, t_raw = { 0 }, t = { 0 };
	int locked, lock, ptn_now, slave2;
	char path[64], buf[64];
	struct stat st;

	fd_init(argc, argv);
	cooked = make(O_NONBLOCK);
	MUST(tcgetattr(cooked.slave, &t));
	t.c_lflag &= ~(tcflag_t)ECHO;
	t.c_iflag |= IXANY;
	t.c_cc[VERASE] = 'q';
	cfsetospeed(&t, B9600);
	MUST(tcsetattr(cooked.slave, TCSANOW, &t));
	MUST(tcgetattr(cooked.slave, &t_cooked));
	MUST(ioctl(cooked.master, TIOCSWINSZ, &ws));

	rawp = make(O_NONBLOCK | O_CLOEXEC);
	raw(rawp.slave);
	MUST(tcgetattr(rawp.slave, &t_raw));
	MUST(write(rawp.slave, "out\nput", 7));
	MUST(write(rawp.master, "in\rput\3", 7));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", rawp.slave);
	slave2 = (int)MUST(open(path, O_RDONLY | O_NOCTTY));

	packet = make(O_NONBLOCK);
	raw(packet.slave);
	MUST(ioctl(packet.master, TIOCPKT, &(int) { 1 }));
	MUST(write(packet.slave, "data", 4));

	/* Two lines, one of them ended by ^D, and the beginning of a third. */
	lines = make(O_NONBLOCK);
	MUST(tcgetattr(lines.slave, &t));
	t.c_lflag &= ~(tcflag_t)ECHO;
	MUST(tcsetattr(lines.slave, TCSANOW, &t));
	MUST(write(lines.master, "first\nsecond\4thi", 16));

	locked = (int)MUST(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));

	hung = make(0);
	(void)close(hung.master);
	half = make(0);
	MUST(write(half.slave, "bye", 3));
	(void)close(half.slave);

	t_ready();

	/* Settings. */
	t_check(!tcgetattr(cooked.slave, &t) && !memcmp(&t, &t_cooked, sizeof(t)), "termios");
	t_check(!ioctl(cooked.slave, TIOCGWINSZ, &got) && !memcmp(&got, &ws, sizeof(ws)),
		"window size %u×%u", got.ws_row, got.ws_col);
	/* The number is the same unless another terminal has taken it. */
	t_check(!ioctl(cooked.master, TIOCGPTN, &ptn_now), "number");
	t_check(isatty(cooked.slave) && isatty(cooked.master), "no terminal");
	snprintf(path, sizeof(path), "/dev/pts/%d", ptn_now);
	t_check(!fstat(cooked.slave, &st) && ttyname(cooked.slave), "name: %s", strerror(errno));
	t_check(!tcgetattr(rawp.slave, &t) && !memcmp(&t, &t_raw, sizeof(t)), "raw termios");
	t_check((fcntl(rawp.slave, F_GETFL) & (O_ACCMODE | O_NONBLOCK)) == (O_RDWR | O_NONBLOCK) &&
			fcntl(rawp.slave, F_GETFD) == FD_CLOEXEC,
		"flags %#o", fcntl(rawp.slave, F_GETFL));
	t_check((fcntl(slave2, F_GETFL) & (O_ACCMODE | O_NONBLOCK)) == O_RDONLY,
		"flags of the second opening");

	/* Raw data in both directions, then new data. */
	t_check(reads(rawp.master, "out\nput"), "output queue");
	t_check(reads(rawp.slave, "in\rput\3"), "input queue");
	t_check(write(rawp.slave, "xyz", 3) == 3 && reads(rawp.master, "xyz"), "output");
	t_check(write(rawp.master, "abc", 3) == 3 && reads(slave2, "abc"), "input");
	t_check(read(rawp.slave, buf, 1) < 0 && errno == EAGAIN, "too much input");

	/* Packet mode: a byte in front. */
	buf[0] = 9;
	t_check(read(packet.master, buf, sizeof(buf)) == 5 && !buf[0] &&
			!memcmp(buf + 1, "data", 4),
		"packet mode: %d", buf[0]);
	t_check(read(packet.master, buf, 1) < 0 && errno == EAGAIN, "too many packets: %d", buf[0]);

	/* Line discipline. */
	t_check(reads(lines.slave, "first\n"), "first line");
	t_check(reads(lines.slave, "second"), "second line");
	t_check(read(lines.slave, buf, sizeof(buf)) < 0 && errno == EAGAIN,
		"half a line is readable");
	t_check(write(lines.master, "r\177rd\n", 6) == 6 && reads(lines.slave, "third\n"),
		"third line");

	t_check(!ioctl(locked, TIOCGPTLCK, &lock) && lock, "lock: %d", lock);
	t_check(ioctl(locked, TIOCGPTPEER, O_RDWR | O_NOCTTY) < 0, "the locked one opens");
	t_check(!unlock(locked) && ioctl(locked, TIOCGPTPEER, O_RDWR | O_NOCTTY) >= 0, "unlocked");

	t_check(read(hung.slave, buf, 1) == 0, "slave without a master");
	t_check(write(hung.slave, buf, 1) < 0 && errno == EIO, "writing there");
	t_check(reads(half.master, "bye"), "last words");
	t_check(read(half.master, buf, 1) < 0 && errno == EIO, "master without a slave: %s",
		strerror(errno));
	return t_done();
}
