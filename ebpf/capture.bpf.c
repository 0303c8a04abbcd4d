// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Write capture for ext4, from tracepoints alone: works where the kernel refuses fentry and fexit.
 * What the events mean is in capture.h.
 */
#include "capture_core.h"
#include "capture_direct.h"
#include "capture_mapped.h"

char LICENSE[] SEC("license") = "GPL";

#define FALLOC_FL_PUNCH_HOLE 0x02
#define FALLOC_FL_ZERO_RANGE 0x10

static __always_inline int buffered(struct inode *inode, __s64 offset, unsigned int copied)
{
	if (copied)
		capture(inode, offset, copied, CAPTURE_WRITE);
	return 0;
}

SEC("tp_btf/ext4_da_write_end")
int BPF_PROG(
	write_delayed, struct inode *inode, __s64 offset, unsigned int length, unsigned int copied)
{
	return buffered(inode, offset, copied);
}

SEC("tp_btf/ext4_write_end")
int BPF_PROG(write_allocated, struct inode *inode, __s64 offset, unsigned int length,
	unsigned int copied)
{
	return buffered(inode, offset, copied);
}

SEC("tp_btf/ext4_journalled_write_end")
int BPF_PROG(write_journalled, struct inode *inode, __s64 offset, unsigned int length,
	unsigned int copied)
{
	return buffered(inode, offset, copied);
}

/* Depending on the kernel, punching and zeroing pass here on their way to hooks of their own. */
SEC("tp_btf/ext4_fallocate_enter")
int BPF_PROG(allocate, struct inode *inode, __s64 offset, __s64 length, int mode)
{
	if (!(mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)))
		capture(inode, offset, length, CAPTURE_ALLOCATE);
	return 0;
}

SEC("tp_btf/ext4_collapse_range")
int BPF_PROG(collapse, struct inode *inode, __s64 offset)
{
	capture(inode, offset, ~0ULL - offset, CAPTURE_ALLOCATE);
	return 0;
}

SEC("tp_btf/ext4_insert_range")
int BPF_PROG(insert, struct inode *inode, __s64 offset)
{
	capture(inode, offset, ~0ULL - offset, CAPTURE_ALLOCATE);
	return 0;
}

SEC("tp_btf/ext4_punch_hole")
int BPF_PROG(punch, struct inode *inode, __s64 offset, __s64 length)
{
	capture(inode, offset, length, CAPTURE_PUNCH);
	return 0;
}

SEC("tp_btf/ext4_zero_range")
int BPF_PROG(zero_range, struct inode *inode, __s64 offset, __s64 length)
{
	capture(inode, offset, length, CAPTURE_ZERO);
	return 0;
}

SEC("tp_btf/ext4_truncate_enter")
int BPF_PROG(truncate_enter, struct inode *inode)
{
	if (inode)
		capture(inode, inode->i_size, 0, CAPTURE_TRUNCATE);
	return 0;
}

SEC("tp_btf/ext4_sync_file_enter")
int BPF_PROG(sync_file, struct file *file)
{
	if (file)
		capture(file->f_inode, 0, 0, CAPTURE_SYNC);
	return 0;
}

/* sync(2) and syncfs call twice, first without waiting: only the second one promises anything. */
SEC("tp_btf/ext4_sync_fs")
int BPF_PROG(sync_fs, struct super_block *file_system, int wait)
{
	struct capture_inode key = {};

	if (!file_system || !wait)
		return 0;
	key.device = file_system->s_dev;
	capture_key(&key, 0, 0, CAPTURE_SYNC);
	return 0;
}
