/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes one range of a file through an asynchronous interface: MODE PATH OFFSET LENGTH, where MODE is
 * aio, aio-direct, uring or uring-direct. Returns after the completion. Raw system calls, no libraries.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static long write_aio(int file, void *data, size_t length, off_t offset)
{
	aio_context_t context = 0;
	struct iocb request = {
		.aio_lio_opcode = IOCB_CMD_PWRITE,
		.aio_fildes = file,
		.aio_buf = (unsigned long)data,
		.aio_nbytes = length,
		.aio_offset = offset,
	};
	struct iocb *requests[] = {&request};
	struct io_event event;

	if (syscall(SYS_io_setup, 4, &context) < 0)
		fail("io_setup");
	if (syscall(SYS_io_submit, context, 1, requests) != 1)
		fail("io_submit");
	if (syscall(SYS_io_getevents, context, 1, 1, &event, NULL) != 1)
		fail("io_getevents");
	return event.res;
}

static void *map_ring(int ring, size_t length, off_t what)
{
	void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, ring, what);

	if (at == MAP_FAILED)
		fail("mmap");
	return at;
}

static long write_uring(int file, void *data, size_t length, off_t offset)
{
	struct io_uring_params params = {0};
	int ring = syscall(SYS_io_uring_setup, 4, &params);
	struct io_uring_sqe *entry;
	struct io_uring_cqe *done;
	char *submit, *complete;
	unsigned int tail;

	if (ring < 0)
		fail("io_uring_setup");
	submit = map_ring(ring, params.sq_off.array + params.sq_entries * sizeof(unsigned int),
		IORING_OFF_SQ_RING);
	complete = map_ring(ring, params.cq_off.cqes + params.cq_entries * sizeof(*done),
		IORING_OFF_CQ_RING);
	entry = map_ring(ring, params.sq_entries * sizeof(*entry), IORING_OFF_SQES);

	*entry = (struct io_uring_sqe){
		.opcode = IORING_OP_WRITE,
		.fd = file,
		.addr = (unsigned long)data,
		.len = length,
		.off = offset,
	};
	tail = *(unsigned int *)(submit + params.sq_off.tail);
	((unsigned int *)(submit + params.sq_off.array))[0] = 0;
	__atomic_store_n((unsigned int *)(submit + params.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		fail("io_uring_enter");
	done = (struct io_uring_cqe *)(complete + params.cq_off.cqes);
	return done->res;
}

int main(int argc, char **argv)
{
	size_t length;
	off_t offset;
	void *data;
	long result;
	int file;

	if (argc != 5)
		return 2;
	offset = strtoll(argv[3], NULL, 10);
	length = strtoull(argv[4], NULL, 10);
	file = open(argv[2], O_RDWR | (strstr(argv[1], "direct") ? O_DIRECT : 0));
	if (file < 0)
		fail(argv[2]);
	if (posix_memalign(&data, 4096, length))
		fail("posix_memalign");
	memset(data, 0x5a, length);
	result = strncmp(argv[1], "aio", 3) ? write_uring(file, data, length, offset)
					    : write_aio(file, data, length, offset);
	if (result != (long)length) {
		fprintf(stderr, "%s wrote %ld of %zu bytes\n", argv[1], result, length);
		return 1;
	}
	return 0;
}
