/*
 * Block I/O on its way, a "flight" by the address of its request. Before this
 * stands the tool's struct flight, with the members queued and issued: times in
 * ns; 0: not known, or not with the device.
 *
 * Requests are made once and used again and again. So are their flights, which
 * costs less than to put them into the map and to take them out. Those of disks
 * that are gone are the first to make room.
 */
#include <linux/blkdev.h>
#include <linux/blk-mq.h>

/* What fits no flight, by its place in the counters. */
#define UNMATCHED 0 /* an end whose beginning was not seen */
#define NEGATIVE 1 /* an end before the beginning */
#define NO_ROOM 2 /* the map did not take it */
#define UNENDED 3 /* a beginning of what had begun, and had not ended */

#define FIRST_DRIVER_OPERATION 32 /* from here on they are commands of the driver */
#define ZONE_APPEND 128 /* ours: the kernel's number is another in each */

BPF_TABLE("lru_hash", u64, struct flight, flights, 1);
BPF_PERCPU_ARRAY(strays, u64, 4);

static inline u64 disk_of(struct request *request)
{
	struct request_queue *queue = (struct request_queue *)READ(request, request, q);
	struct gendisk *disk = (struct gendisk *)$REQUEST_DISK;

	return (u64)READ(gendisk, disk, major) << 20 | READ(gendisk, disk, first_minor);
}

static inline u32 operation_of(struct request *request)
{
	return READ(request, request, cmd_flags) & 0xff;
}

/* The operation in 8 bits, and above it the flags in the order of block.FLAGS. */
static inline u32 kind_of(struct request *request)
{
	u32 all = READ(request, request, cmd_flags), operation = all & 0xff;

	if (operation == REQ_OP_ZONE_APPEND)
		operation = ZONE_APPEND;
	return operation |
	       (all >> __REQ_SYNC & 1) << 8 |
	       (all >> __REQ_META & 1) << 9 |
	       (all >> __REQ_PRIO & 1) << 10 |
	       (all >> __REQ_NOMERGE & 1) << 11 |
	       (all >> __REQ_IDLE & 1) << 12 |
	       (all >> __REQ_INTEGRITY & 1) << 13 |
	       (all >> __REQ_FUA & 1) << 14 |
	       (all >> __REQ_PREFLUSH & 1) << 15 |
	       (all >> __REQ_RAHEAD & 1) << 16 |
	       (all >> __REQ_BACKGROUND & 1) << 17 |
	       (all >> __REQ_NOWAIT & 1) << 18 |
	       (all >> __REQ_SWAP & 1) << 19;
}

static inline bool watched(struct request *request)
{
	if (operation_of(request) >= FIRST_DRIVER_OPERATION)
		return false;
	return $DISK < 0 || disk_of(request) == $DISK;
}
