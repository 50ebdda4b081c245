// SPDX-License-Identifier: GPL-2.0-only
#include "vm.h"
const struct test session_tests[] = { {} };
const struct test stress_tests[] = { {} };
const struct test figure_tests[] = { {} };
