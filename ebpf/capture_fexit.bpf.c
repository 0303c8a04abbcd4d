// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Write capture for any file system, at the functions through which FUSE passthrough reaches the
 * backing file. Needs a kernel that admits fentry and fexit. What the events mean is in capture.h;
 * writes that do not come through a passthrough mount make none here, and of the syncs that go past
 * the replicator sync(2) is not seen.
 */
#include "capture_core.h"
#include "capture_mapped.h"

char LICENSE[] SEC("license") = "GPL";

#define EIO		     5
#define IOCB_WRITE	     (1 << 17)
#define FALLOC_FL_PUNCH_HOLE 0x02
#define FALLOC_FL_ZERO_RANGE 0x10

/*
 * The position has moved to the end of what was written. An EIO may have left a part of the range
 * on the disk, and the iterator no longer tells which; an asynchronous write (-EIOCBQUEUED) is not
 * written yet.
 */
static __always_inline int written(struct inode *inode, __s64 end, __s64 result)
{
	if (result > 0)
		capture(inode, end - result, result, CAPTURE_WRITE);
	else if (result == -EIO)
		capture(inode, 0, ~0ULL, CAPTURE_WRITE);
	return 0;
}

SEC("fexit/backing_file_write_iter")
int BPF_PROG(write_backing, struct file *file, struct iov_iter *iter, struct kiocb *iocb, int flags,
	struct backing_file_ctx *context, long result)
{
	return written(file->f_inode, iocb->ki_pos, result);
}

SEC("fentry/backing_aio_rw_complete")
int BPF_PROG(write_asynchronous, struct kiocb *iocb, long result)
{
	if (!(iocb->ki_flags & IOCB_WRITE))
		return 0;
	return written(iocb->ki_filp->f_inode, iocb->ki_pos, result);
}

SEC("fexit/backing_file_splice_write")
int BPF_PROG(splice_backing, void *pipe, struct file *file, void *position, unsigned long length,
	unsigned int flags, struct backing_file_ctx *context, long result)
{
	__s64 end = 0;

	if (bpf_core_field_exists(((struct backing_file_ctx *)0)->user_file))
		bpf_probe_read_kernel(&end, sizeof(end), position);
	else
		bpf_core_read(&end, sizeof(end), &((struct kiocb *)position)->ki_pos);
	return written(file->f_inode, end, result);
}

SEC("fentry/vfs_fallocate")
int BPF_PROG(allocate, struct file *file, int mode, __s64 offset, __s64 length)
{
	if (mode & FALLOC_FL_PUNCH_HOLE)
		capture(file->f_inode, offset, length, CAPTURE_PUNCH);
	else if (mode & FALLOC_FL_ZERO_RANGE)
		capture(file->f_inode, offset, length, CAPTURE_ZERO);
	else
		capture(file->f_inode, offset, ~0ULL - offset, CAPTURE_ALLOCATE);
	return 0;
}

SEC("fentry/truncate_pagecache")
int BPF_PROG(truncate_enter, struct inode *inode, __s64 size)
{
	capture(inode, size, 0, CAPTURE_TRUNCATE);
	return 0;
}

SEC("fentry/vfs_fsync_range")
int BPF_PROG(sync_file, struct file *file)
{
	capture(file->f_inode, 0, 0, CAPTURE_SYNC);
	return 0;
}

SEC("fentry/sync_filesystem")
int BPF_PROG(sync_fs, struct super_block *file_system)
{
	struct capture_inode key = {.device = file_system->s_dev};

	capture_key(&key, 0, 0, CAPTURE_SYNC);
	return 0;
}
