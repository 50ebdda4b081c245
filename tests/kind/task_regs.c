// SPDX-License-Identifier: GPL-2.0-only
/* Every register: GPRs, flags, x87, SSE, AVX and AVX-512 with patterns, held across the
 * checkpoint by threads that never leave user space and by threads inside a system call. */
#include "t.h"

#include <cpuid.h>

enum { X87 = 1, SSE = 2, AVX = 4, OPMASK = 32, ZMM_HI256 = 64, HI16_ZMM = 128, AREA = 16384 };

/* What hold() loads and stores; the offsets are known to the assembler text below. */
struct regs {
	uint64_t gpr[15];    /* rax rbx rcx rdx rsi rdi rbp r8 … r15 */
	uint64_t flags;      /* 120 */
	void *xsave;         /* 128 */
	uint64_t mask;       /* 136: requested components */
	volatile int *flag;  /* 144: spin until non-zero, or futex when blocking */
	uint64_t rsp;        /* 152 */
};

/* hold_spin(in, out): %rsp is the only register left, and serves to find `out` again. */
void hold_spin(const struct regs *in, struct regs *out);
void hold_wait(const struct regs *in, struct regs *out);

#define SAVE_CALLEE                                                                                \
	"	pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15\n"          \
	"	pushq %rsi\n"                                                                      \
	"	movq 136(%rdi), %rax; movq %rax, %rdx; shrq $32, %rdx\n"                           \
	"	movq 128(%rdi), %rcx; xrstor64 (%rcx)\n"
#define LOAD_MOST                                                                                  \
	"	movq 0(%rdi), %rax; movq 8(%rdi), %rbx; movq 16(%rdi), %rcx; movq 24(%rdi), %rdx\n" \
	"	movq 32(%rdi), %rsi; movq 48(%rdi), %rbp\n"                                        \
	"	movq 56(%rdi), %r8;  movq 64(%rdi), %r9;  movq 72(%rdi), %r10\n"                   \
	"	movq 80(%rdi), %r11; movq 88(%rdi), %r12; movq 96(%rdi), %r13\n"                   \
	"	movq 104(%rdi), %r14; movq 112(%rdi), %r15\n"
/* On the stack: out, in reach of (%rsp); rax is pushed to have one register. */
#define STORE_ALL                                                                                  \
	"	pushq %rax; movq 8(%rsp), %rax\n"                                                  \
	"	movq %rbx, 8(%rax);  movq %rcx, 16(%rax); movq %rdx, 24(%rax)\n"                   \
	"	movq %rsi, 32(%rax); movq %rdi, 40(%rax); movq %rbp, 48(%rax)\n"                   \
	"	movq %r8, 56(%rax);  movq %r9, 64(%rax);  movq %r10, 72(%rax)\n"                   \
	"	movq %r11, 80(%rax); movq %r12, 88(%rax); movq %r13, 96(%rax)\n"                   \
	"	movq %r14, 104(%rax); movq %r15, 112(%rax)\n"                                      \
	"	popq %rcx; movq %rcx, 0(%rax)\n"                                                   \
	"	pushfq; popq 120(%rax); cld\n"                                                     \
	"	movq %rax, %rdi\n"                                                                 \
	"	movq 136(%rdi), %rax; movq %rax, %rdx; shrq $32, %rdx\n"                           \
	"	movq 128(%rdi), %rcx; xsave64 (%rcx)\n"                                            \
	"	fninit; vzeroupper\n"                                                              \
	"	popq %rsi; popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx; ret\n"

static volatile int go __asm__("test_go");
static volatile int sleeping __asm__("test_sleeping");

__asm__(".text\n"
	".globl hold_spin\nhold_spin:\n" SAVE_CALLEE LOAD_MOST
	"	movq 40(%rdi), %rdi\n"
	"	std\n"
	"1:	pause\n"
	"	cmpl $0, test_go(%rip)\n"
	"	je 1b\n" STORE_ALL
	/* futex(&go, FUTEX_WAIT, 0, NULL): rdi, rsi, rdx, r10 are arguments, rcx, r11 and rax
	 * are overwritten by the system call; the rest holds patterns. */
	".globl hold_wait\nhold_wait:\n" SAVE_CALLEE LOAD_MOST
	"2:	leaq test_go(%rip), %rdi; xorl %esi, %esi; xorl %edx, %edx; xorl %r10d, %r10d\n"
	"	movl $202, %eax\n"
	"	std\n"
	"	syscall\n"
	"	cmpl $0, test_go(%rip)\n"
	"	je 2b\n" STORE_ALL);

struct holder {
	uint64_t seed;
	bool blocks;
	atomic_int tid;
	pthread_t thread;
	struct regs in, out;
};

static uint64_t components;
static struct {
	uint32_t offset, size;
} part[16];

static void fill(uint8_t *p, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(t_pattern(seed + i / 8) >> (i % 8 * 8));
}

/* The area as hold_*() loads it: legal control words, patterns everywhere else. */
static uint8_t *make_area(uint64_t seed)
{
	uint8_t *area = aligned_alloc(64, AREA);
	static const uint16_t fcw[] = { 0x37f, 0xf7f, 0x27f };
	static const uint32_t mxcsr[] = { 0x1f80, 0x7fa0, 0xffc0, 0x3f81 };

	memset(area, 0, AREA);
	memcpy(area, &fcw[seed % 3], 2);
	area[4] = 0xff; /* all x87 registers in use */
	memcpy(area + 24, &mxcsr[seed % 4], 4);
	for (size_t i = 0; i < 8; i++) {
		fill(area + 32 + i * 16, 10, seed * 100 + i);
		area[32 + i * 16 + 7] |= 0x80; /* a normal number: integer bit set */
		area[32 + i * 16 + 9] = (uint8_t)((area[32 + i * 16 + 9] & 0xbf) | 0x20);
	}
	fill(area + 160, 256, seed * 100 + 20);
	for (int i = 2; i < 16; i++)
		if (components >> i & 1)
			fill(area + part[i].offset, part[i].size, seed * 1000 + (uint64_t)i);
	memcpy(area + 512, &components, 8);
	return area;
}

static void *run(void *arg)
{
	struct holder *h = arg;

	h->tid = t_gettid();
	(h->blocks ? hold_wait : hold_spin)(&h->in, &h->out);
	return NULL;
}

static void start(struct holder *h, uint64_t seed, bool blocks)
{
	h->seed = seed;
	h->blocks = blocks;
	for (size_t i = 0; i < 15; i++)
		h->in.gpr[i] = t_pattern(seed * 64 + i);
	h->in.xsave = make_area(seed);
	h->out.xsave = aligned_alloc(64, AREA);
	memset(h->out.xsave, 0, AREA);
	h->in.mask = h->out.mask = components;
	h->thread = t_thread(run, h);
}

static void verify(const struct holder *h)
{
	static const char *const name[] = { "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8",
					    "r9",  "r10", "r11", "r12", "r13", "r14", "r15" };
	const uint8_t *in = h->in.xsave, *out = h->out.xsave;

	for (int i = 0; i < 15; i++) {
		/* rax rcx rdx rsi rdi r10 r11: arguments, and what a system call overwrites. */
		if (h->blocks && (0x63d & 1 << i))
			continue;
		t_check(h->out.gpr[i] == h->in.gpr[i], "%s is %#lx: %#lx", name[i], h->in.gpr[i],
			h->out.gpr[i]);
	}
	t_check(h->out.flags & 0x400, "direction flag: %#lx", h->out.flags);
	t_check(memcmp(in, out, 2) == 0, "x87 control word");
	t_check(out[4] == 0xff, "x87 tags: %#x", out[4]);
	t_check(memcmp(in + 24, out + 24, 4) == 0, "mxcsr %#x: %#x", *(const uint32_t *)(in + 24),
		*(const uint32_t *)(out + 24));
	for (size_t i = 0; i < 8; i++)
		t_check(memcmp(in + 32 + 16 * i, out + 32 + 16 * i, 10) == 0, "st(%zu)", i);
	t_check(memcmp(in + 160, out + 160, 256) == 0, "xmm");
	for (int i = 2; i < 16; i++)
		if (components >> i & 1)
			t_check(memcmp(in + part[i].offset, out + part[i].offset, part[i].size) == 0,
				"XSAVE component %d", i);
}

int main(int argc, char **argv)
{
	static struct holder h[8];
	uint32_t a, b, c, d;

	t_init(argc, argv);
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1))
		t_skip("XSAVE");
	__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	components = a & (X87 | SSE | AVX | OPMASK | ZMM_HI256 | HI16_ZMM);
	for (unsigned int i = 2; i < 16; i++)
		if (components >> i & 1)
			(void)__get_cpuid_count(13, i, &part[i].size, &part[i].offset, &c, &d);
	/* Two spin, so that the machine's cores are not starved; the rest blocks. */
	for (uint64_t i = 0; i < T_ARRAY_SIZE(h); i++)
		start(&h[i], i + 1, i >= 2);
	for (size_t i = 0; i < T_ARRAY_SIZE(h); i++) {
		t_until(h[i].tid, "thread runs");
		if (h[i].blocks)
			t_until_asleep(getpid(), h[i].tid, SYS_futex);
	}
	t_ready();
	go = 1;
	(void)syscall(SYS_futex, &go, 1, INT32_MAX, NULL, NULL, 0);
	for (size_t i = 0; i < T_ARRAY_SIZE(h); i++) {
		t_zero(pthread_join(h[i].thread, NULL));
		verify(&h[i]);
	}
	return t_done();
}
