// SPDX-License-Identifier: GPL-2.0-only
/* The registry is complete: every kind has a unique name and all the functions it needs, and restores
 * what it dumps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "kind/fd/tcpwait.h"
#include "kind/kind.h"

static void fd_kinds_are_whole(void **state)
{
	(void)state;
	for (size_t i = 0; fd_kinds[i]; i++) {
		const struct fd_kind *k = fd_kinds[i];

		assert_non_null(k->name);
		assert_non_null(k->desc);
		assert_non_null(k->restore);
		/* Objects without a descriptor of their own are made by others and never match. */
		if (k->match)
			assert_non_null(k->dump);
		assert_ptr_equal(fd_kind_by_name(k->name), k);
	}
}

static void vma_kinds_are_whole(void **state)
{
	(void)state;
	for (size_t i = 0; vma_kinds[i]; i++) {
		assert_non_null(vma_kinds[i]->match);
		assert_non_null(vma_kinds[i]->plan);
		assert_ptr_equal(vma_kind_by_name(vma_kinds[i]->name), vma_kinds[i]);
	}
}

static void task_kinds_are_whole(void **state)
{
	(void)state;
	for (size_t i = 0; task_kinds[i]; i++) {
		assert_non_null(task_kinds[i]->desc);
		assert_non_null(task_kinds[i]->dump);
		assert_non_null(task_kinds[i]->plan);
		assert_ptr_equal(task_kind_by_name(task_kinds[i]->name), task_kinds[i]);
	}
}

static void a_malformed_body_is_refused(void **state)
{
	unsigned char bytes[] = { 0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f };
	Ckpt__State st = CKPT__STATE__INIT;
	struct ckpt_err err = { 0 };

	(void)state;
	st.kind = (char *)"pipe";
	st.body = (ProtobufCBinaryData){ sizeof(bytes), bytes };
	assert_null(kind_state_unpack(&st, fd_kind_by_name("pipe")->desc, &err));
	assert_int_equal(err.id, E_IMAGE_CORRUPT);
}

static void connections_wait_at_their_own_listener(void **state)
{
	static const struct {
		uint32_t listener, local;
		uint16_t port;
		unsigned int state;
		int want;
	} cases[] = {
		{ INADDR_ANY, 0x7f000001, 80, TCP_ESTABLISHED, 0 },
		{ 0x7f000001, 0x7f000001, 80, TCP_CLOSE_WAIT, 0 },
		{ 0x7f000001, 0x7f000001, 80, TCP_CLOSE, 0 },
		{ 0x7f000001, 0x7f000002, 80, TCP_ESTABLISHED, -EBADMSG },
		{ INADDR_ANY, 0x7f000001, 81, TCP_ESTABLISHED, -EBADMSG },
		{ INADDR_ANY, 0x7f000001, 80, TCP_LISTEN, -EBADMSG },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sockaddr_in a[3] = {
			{ AF_INET, htons(80), { htonl(cases[i].listener) }, { 0 } },
			{ AF_INET, htons(cases[i].port), { htonl(cases[i].local) }, { 0 } },
			{ AF_INET, htons(4711), { htonl(0x0a000001) }, { 0 } },
		};
		Ckpt__FdInet m = CKPT__FD_INET__INIT;
		Ckpt__FdTcp w = CKPT__FD_TCP__INIT, *v = &w;
		struct ckpt_err err = { 0 };

		m.listening = true;
		m.name = (ProtobufCBinaryData){ sizeof(a[0]), (void *)&a[0] };
		m.waiting = &v;
		m.n_waiting = 1;
		w.name = (ProtobufCBinaryData){ sizeof(a[1]), (void *)&a[1] };
		w.peer = (ProtobufCBinaryData){ sizeof(a[2]), (void *)&a[2] };
		w.state = cases[i].state;
		assert_int_equal(tcp_wait_check(&m, &err), cases[i].want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fd_kinds_are_whole),
		cmocka_unit_test(vma_kinds_are_whole),
		cmocka_unit_test(task_kinds_are_whole),
		cmocka_unit_test(a_malformed_body_is_refused),
		cmocka_unit_test(connections_wait_at_their_own_listener),
	};

	return cmocka_run_group_tests_name("kinds", tests, NULL, NULL);
}
