/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The few kernel structures that the capture reads, with the fields it reads and no others. Offsets
 * are relocated at load (CO-RE) to those of the running kernel, so the objects build on a machine
 * whose own kernel has no BTF, and one build serves every kernel.
 */
#ifndef TELAMON_KERNEL_H
#define TELAMON_KERNEL_H

#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

struct super_block {
	__u32 s_dev;
};

struct inode {
	struct super_block *i_sb;
	unsigned long i_ino;
	__s64 i_size;
	__u32 i_generation;
};

struct address_space {
	struct inode *host;
	atomic_t i_mmap_writable;
};

struct file {
	struct inode *f_inode;
};

struct kiocb {
	struct file *ki_filp;
	__s64 ki_pos;
	int ki_flags;
};

/* `user_file` went with 6.13, when backing_file_splice_write took a kiocb for its position. */
struct backing_file_ctx {
	struct file *user_file;
};

struct iov_iter {
	_Bool data_source;
	unsigned long count;
};

struct task_struct {
	struct task_struct *group_leader;
	__u64 start_boottime;
};

struct folio {
	unsigned long index;
	unsigned long _flags_1;
};

/* `flags` is a plain word before 6.18 and a structure of one word since. */
struct folio___word {
	unsigned long flags;
};

typedef struct {
	unsigned long f;
} memdesc_flags_t;

struct folio___structure {
	memdesc_flags_t flags;
};

enum pageflags {
	PG_head = 6,
};

#pragma clang attribute pop

#endif
