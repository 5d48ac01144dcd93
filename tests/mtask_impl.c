/* mtask_impl.c - the implementation of every mtask header, once, for the programs in tests/ */
#define MTASK_IMPLEMENTATION
#include "../mtask.h"
#include "../mtask_queue.h"
#include "../mtask_coro.h"
#include "../mtask_pool.h"
#ifndef MTASK_CORO_NO_LOOP
# include "../mtask_io.h"
# include "../mtask_proc.h"
#endif
