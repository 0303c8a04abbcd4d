/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The contract between the write capture in the kernel, the agent that loads it and the replicator
 * that reads it.
 *
 * One loaded object per mirror module, pinned below /sys/fs/bpf/telamon/MODULE/:
 *
 *	events      ring buffer of struct capture_event
 *	watched     hash: struct capture_inode -> struct capture_watch
 *	drop_count  mmapable array of one __u64: events lost since load
 *	settings    array of one struct capture_settings
 *	prog_NAME, link_NAME  every program and its attachment
 *	prog_claim  to be run once (BPF_PROG_TEST_RUN, no context) in the replicator's process
 *
 * Who is captured. The replicator adds an inode to `watched` before it answers the first open that
 * can write to it, and removes it when the kernel forgets the inode. Other inodes never make an
 * event. What the process that last ran prog_claim does itself makes no event either, in any back
 * end: it knows its own writes. The claim ends with that process (a new one with its number is not
 * it), so a restarted replicator claims again.
 *
 * Order. An event stands in the ring before the call that caused it returns to the application, and
 * after the content is in the page cache (for O_DIRECT: at the end of the transfer). A buffered
 * write that grows a file makes its event shortly before the new size is visible: a reader that
 * finds less than the range has not read it and must look again; inside FSYNC of that inode, whose
 * lock keeps writers out, the size is final. CAPTURE_PUNCH, _ZERO, _ALLOCATE and _TRUNCATE are made
 * when the operation begins. The replicator carries out an application's fallocate and truncate
 * itself, so these, like CAPTURE_SYNC, mean that someone went past it.
 *
 * Loss. When the ring is full the event is gone, but never silently: first `lost_end` and
 * `lost_events` of the inode's own element in `watched` are raised, then `drop_count`. Nothing in
 * this path can fail, and all three only ever grow. So a reader keeps the values it has dealt with:
 * an unchanged `drop_count` (one load from the mapping, before a commit is acknowledged) proves
 * that nothing was lost; after a change it walks `watched`, and an inode of which either value moved
 * is dirty from 0 to the greater of its size and `lost_end`, under the rule of the short read above.
 *
 * A kernel that lets these programs be preempted (tracepoints from 7.0 on, fexit with preempt=full)
 * can skip one while another task's run of it is suspended on that CPU, and counts that in
 * `recursion_misses` of bpf_prog_info. There a rise of any prog_NAME's count counts as a loss of
 * every watched inode. Up to 6.18 tracepoint programs cannot miss a write.
 */
#ifndef TELAMON_CAPTURE_H
#define TELAMON_CAPTURE_H

#ifndef __bpf__
#include <linux/types.h>
#endif

/*
 * Key of `watched`. `device` is the kernel's s_dev: major << 20 | minor. The key {0, device, 0}
 * stands for the file system itself: with it in `watched`, sync(2) and syncfs there make a
 * CAPTURE_SYNC with inode 0.
 */
struct capture_inode {
	__u64 inode;
	__u32 device;
	__u32 generation;
};

/* Value of `watched`. The replicator writes it once, with zeros for what the kernel counts. */
struct capture_watch {
	__u32 tree; /* index of the replicated directory */
	__u32 reserved;
	__u64 lost_events; /* events of this inode that found the ring full */
	__u64 lost_end;	   /* bytes: the highest end among their ranges */
};

/* Ranges may reach beyond the end of the file. */
enum capture_kind {
	CAPTURE_WRITE = 1,    /* buffered or direct write */
	CAPTURE_MAPPED = 2,   /* first store into a clean page of a shared mapping; whole folio */
	CAPTURE_PUNCH = 3,    /* hole */
	CAPTURE_ZERO = 4,     /* zeroed range */
	CAPTURE_ALLOCATE = 5, /* fallocate; a shift of blocks reaches to the end of all offsets */
	CAPTURE_TRUNCATE = 6, /* offset = new size, length = 0; not when it only extends the file */
	CAPTURE_SYNC = 7,     /* a sync that went past the replicator: msync, RWF_DSYNC, sync(2) */
	CAPTURE_FAULTED = 8,  /* pages came within reach of stores; dirty ones stay silent */
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

/*
 * The element of `settings`, which the replicator may write at any time. A submit wakes a poller of
 * the ring only while at least `wake_bytes` wait in it (an element takes 48); 0 wakes it whenever
 * it had caught up. A reader that sets it must also look by itself from time to time.
 */
struct capture_settings {
	__u64 wake_bytes;
};

_Static_assert(sizeof(struct capture_inode) == 16, "shared layout");
_Static_assert(sizeof(struct capture_watch) == 24, "shared layout");
_Static_assert(sizeof(struct capture_event) == 40, "shared layout");
_Static_assert(sizeof(struct capture_settings) == 8, "shared layout");
#endif
