/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Direct I/O through iomap, seen from its tracepoints.
 *
 * A direct write is known as a write only when it begins (the iterator's direction; IOCB_WRITE is
 * not set on synchronous ones) and has reached the disk only when it completes, so its range waits in
 * `direct` under its kiocb. Between them the call can fail without completing: such an element
 * stays until its address is used again, and is recognised by its inode. If `direct` was ever full, a
 * completion without element may be a write, and counts as one.
 */
#ifndef TELAMON_CAPTURE_DIRECT_H
#define TELAMON_CAPTURE_DIRECT_H

#include "capture_core.h"

struct direct_write {
	struct capture_inode key;
	__u64 offset; /* bytes */
	__u64 length; /* bytes */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, DIRECT_IN_FLIGHT);
	__type(key, __u64);
	__type(value, struct direct_write);
} direct SEC(".maps");

static _Bool direct_was_full;

SEC("tp_btf/iomap_dio_rw_begin")
int BPF_PROG(direct_begin, struct kiocb *iocb, struct iov_iter *iter)
{
	__u64 request = (__u64)iocb;
	struct direct_write write;

	if (!iocb || !iter)
		return 0;
	write.key = key_of(iocb->ki_filp->f_inode);
	write.offset = iocb->ki_pos;
	write.length = iter->count;
	if (!bpf_map_lookup_elem(&watched, &write.key))
		return 0;
	if (iter->data_source != ITER_SOURCE)
		bpf_map_delete_elem(&direct, &request);
	else if (bpf_map_update_elem(&direct, &request, &write, BPF_ANY))
		direct_was_full = 1;
	return 0;
}

/* A failed write may have changed a part of its range, so the whole range counts in every case. */
SEC("tp_btf/iomap_dio_complete")
int BPF_PROG(direct_complete, struct kiocb *iocb, int error, long result)
{
	__u64 request = (__u64)iocb;
	struct direct_write *write;
	struct capture_inode key;

	if (!iocb)
		return 0;
	key = key_of(iocb->ki_filp->f_inode);
	write = bpf_map_lookup_elem(&direct, &request);
	if (write && write->key.inode == key.inode && write->key.device == key.device)
		capture_key(&key, write->offset, write->length, CAPTURE_WRITE);
	else if (direct_was_full)
		capture_key(&key, 0, ~0ULL, CAPTURE_WRITE);
	if (write)
		bpf_map_delete_elem(&direct, &request);
	return 0;
}

#endif
