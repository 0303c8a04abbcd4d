/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The contract between the write capture in the kernel and the replicator: maps, keys and events.
 *
 * One loaded object per mirror module, pinned below /sys/fs/bpf/telamon/MODULE/: maps `events`, `watched`,
 * `dropped`, `drop_count`; programs prog_NAME; links link_NAME. The replicator adds an inode to `watched` before it
 * answers the first passthrough open for writing, and removes it when the kernel forgets the inode. Events of other
 * inodes are never made.
 */
#ifndef TELAMON_CAPTURE_H
#define TELAMON_CAPTURE_H

#ifndef __bpf__
#include <linux/types.h>
#endif

/* Key of `watched` and `dropped`. `device` is the kernel's s_dev: major << 20 | minor. */
struct capture_inode {
	__u64 inode;
	__u32 device;
	__u32 generation;
};

/* Value of `watched`. */
struct capture_watch {
	__u32 tree; /* index of the replicated directory */
	__u32 reserved;
};

enum capture_kind {
	CAPTURE_WRITE = 1,    /* buffered or direct write */
	CAPTURE_MAPPED = 2,   /* a mapped page became dirty; the range is the whole folio */
	CAPTURE_PUNCH = 3,    /* hole */
	CAPTURE_ZERO = 4,     /* zeroed range */
	CAPTURE_ALLOCATE = 5, /* fallocate */
	CAPTURE_TRUNCATE = 6, /* offset = new size, length = 0 */
	CAPTURE_SYNC = 7,     /* a sync that went past the replicator: msync, RWF_DSYNC, sync(2) */
};

/* One element of the ring `events`. */
struct capture_event {
	__u64 inode;
	__u64 offset; /* bytes */
	__u64 length; /* bytes */
	__u32 generation;
	__u32 device;
	__u32 tree;
	__u32 kind; /* enum capture_kind */
};

/* `drop_count` is an mmapable array of one __u64: events lost since load. `dropped` maps inode -> events lost. The count
 * is raised before the ring refuses, and read before a commit is acknowledged. */

#ifndef __bpf__
_Static_assert(sizeof(struct capture_inode) == 16, "shared layout");
_Static_assert(sizeof(struct capture_watch) == 8, "shared layout");
_Static_assert(sizeof(struct capture_event) == 40, "shared layout");
#endif
#endif
