/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Functions for all that Rust cannot call: macros and inline functions of the kernel, and everything that
 * differs between the supported kernels. Everything here is one step of the kernel's own; decisions are made
 * in Rust.
 */
#ifndef WB_SHIM_H
#define WB_SHIM_H

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/device-mapper.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

/* The results of a target's map and end_io, as constants that bindgen sees. */
enum {
	WB_MAPIO_SUBMITTED = DM_MAPIO_SUBMITTED,
	WB_MAPIO_REMAPPED = DM_MAPIO_REMAPPED,
	WB_ENDIO_DONE = DM_ENDIO_DONE,
	WB_ENDIO_INCOMPLETE = DM_ENDIO_INCOMPLETE,
};

enum wb_op {
	WB_OP_READ,
	WB_OP_WRITE,
	WB_OP_FLUSH,
	WB_OP_OTHER,
};

/* How wb_event_wait() sleeps. */
enum wb_sleep {
	WB_SLEEP_IDLE,		/* a kernel thread with nothing to do: ends by wb_thread_stop() too */
	WB_SLEEP_BUSY,		/* a task waits for I/O */
	WB_SLEEP_INTERRUPTIBLE,	/* a user waits, and may send a signal */
};

/* Something that happens again and again, and that several threads may wait for. */
struct wb_event {
	atomic_t count;
	wait_queue_head_t wait;
};

/* The module's actions when the machine hibernates; each in a task that may sleep, one at a time. */
struct wb_sleep_ops {
	void (*drowse)(void);	/* the machine is about to hibernate, or an image to replace this kernel */
	bool (*rest)(void);	/* user space is frozen, devices work; false while writes are under way */
	bool (*sleep)(void);	/* nothing may be written from now on; false while writes are under way */
	void (*stay)(void);	/* memory is unchanged: no image has replaced it */
	void (*restored)(void);	/* memory is that of an image: devices work, and all tasks are still frozen */
	void (*wake)(void);	/* tasks run again */
};

/* The fields of struct queue_limits that a target decides for itself: policy/limits.rs explains each. */
struct wb_limits {
	unsigned int logical_block_size;
	unsigned int physical_block_size;
	unsigned int alignment_offset;
	unsigned int io_min;
	unsigned int io_opt;
	unsigned int chunk_sectors;
	unsigned int max_hw_sectors;
	unsigned int max_dev_sectors;
	unsigned int max_user_sectors;
	bool misaligned;
	bool rotational;
	bool stable_writes;
	bool stripes;
};

typedef void (*wb_end_fn)(void *data, unsigned long tag, const void *sent_to, int error);
typedef void (*wb_serve_fn)(void *queue, struct bio *bio);

/* Kinds of queues between which a bio may pass. */
enum wb_queue_kind {
	WB_QUEUE_CHECK,
	WB_QUEUE_NEAR,
	WB_QUEUE_FAR,
};

/* A bio's place in a queue: behind the target's own data of the bio. */
struct wb_bio_work {
	struct work_struct work;
	wb_serve_fn serve;
	void *queue;
	struct bio *bio;
};

/* The room that is needed beside each bio, as a constant that bindgen sees. */
enum { WB_BIO_WORK_SIZE = sizeof(struct wb_bio_work) };

/* A bio of the module's own, with the receiver of its end. */
struct wb_own_bio {
	wb_end_fn end;
	void *data;
	unsigned long tag;
	const void *sent_to;	/* counts the bios of its device */
	struct bio bio;
};

void wb_event_init(struct wb_event *event);
void wb_event_notify(struct wb_event *event);
int wb_event_count(struct wb_event *event);
int wb_event_wait(struct wb_event *event, int seen, unsigned int timeout_ms, enum wb_sleep sleep);

struct task_struct *wb_thread_run(int (*fn)(void *data), void *data, const char *name);
void wb_thread_stop(struct task_struct *task);
void wb_thread_hurry(bool hurry);
bool wb_thread_should_stop(void);

int wb_sleep_init(const struct wb_sleep_ops *ops);
void wb_sleep_exit(void);
bool wb_task_hibernates(void);
struct workqueue_struct *wb_queue_alloc(const char *name, unsigned int workers);
void wb_queue_push(struct workqueue_struct *wq, enum wb_queue_kind kind, struct bio *bio, size_t data_size,
		   wb_serve_fn serve, void *queue);
void wb_queue_drain(struct workqueue_struct *wq);
void wb_queue_free(struct workqueue_struct *wq);

void *wb_pages_alloc(size_t size);
void wb_pages_free(void *p, size_t size);
void *wb_table_alloc(size_t size);
void wb_table_free(void *p, size_t size);
void *wb_counters_alloc(unsigned int n);
void wb_counters_free(void *counters);
void wb_counters_add(void *counters, unsigned int i, u64 n);
u64 wb_counters_sum(void *counters, unsigned int i);
u32 wb_crc32c(u32 crc, const void *p, size_t len);
void wb_prefetch(const void *p);
void wb_random(void *p, size_t len);
bool wb_sleep_interruptible(unsigned int ms);

enum wb_op wb_bio_op(const struct bio *bio);
bool wb_bio_is_fua(const struct bio *bio);
bool wb_bio_may_wait(const struct bio *bio);
bool wb_bio_is_ahead(const struct bio *bio);
bool wb_may_take_long(void);
bool wb_submits_now(void);
bool wb_target_is_alone(struct dm_target *ti);
sector_t wb_bio_sector(const struct bio *bio);
unsigned int wb_bio_bytes(const struct bio *bio);
struct bvec_iter wb_bio_iter(const struct bio *bio);
void wb_bio_set_fua(struct bio *bio, bool fua);
void wb_bio_rewind(struct bio *bio, const struct bvec_iter *start, sector_t sector);
void wb_bio_remap(struct bio *bio, struct block_device *bdev, sector_t sector);
void wb_bio_set_sector(struct bio *bio, sector_t sector);
int wb_status_to_errno(blk_status_t status);
blk_status_t wb_errno_to_status(int error);
void wb_bio_end(struct bio *bio, int error);
void wb_bio_take_back(struct bio *bio);
void wb_bio_copy(struct bio *bio, struct bvec_iter *iter, void *buf, unsigned int len, bool to_bio);
u32 wb_bio_crc32c(struct bio *bio, struct bvec_iter *iter, unsigned int len, u32 crc);
struct bio *wb_bio_next(struct bio *bio);
void wb_bio_set_next(struct bio *bio, struct bio *next);

int wb_bio_set_init(struct bio_set *bs, unsigned int pool_size);
void wb_bio_set_exit(struct bio_set *bs);
void wb_bio_submit(struct bio_set *bs, struct block_device *bdev, sector_t sector, void *buf,
		   unsigned int len, bool write, bool fua, bool background, wb_end_fn end, void *data,
		   unsigned long tag, const void *sent_to);
void wb_bio_submit_flush(struct bio_set *bs, struct block_device *bdev, bool background, wb_end_fn end,
			 void *data, unsigned long tag, const void *sent_to);

sector_t wb_bdev_sectors(struct block_device *bdev);
unsigned int wb_bdev_logical_block_size(struct block_device *bdev);
bool wb_bdev_is_zoned(struct block_device *bdev);
bool wb_bdev_is_read_only(struct block_device *bdev);
struct wb_limits wb_bdev_limits(struct block_device *bdev);
unsigned int wb_bdev_busy_ms(struct block_device *bdev);
u64 wb_now_ms(void);
int wb_end_begin(void);
void wb_end_over(int idx);
void wb_synchronize(void);
bool wb_bio_fits(struct bio *bio, struct block_device *bdev);
void wb_bio_skip(struct bio *bio, struct bvec_iter *iter, unsigned int len);

blk_mode_t wb_target_mode(struct dm_target *ti);
sector_t wb_target_offset(struct dm_target *ti, sector_t sector);
void wb_target_init(struct dm_target *ti, unsigned int per_io_data_size);
void wb_target_set_limits(struct queue_limits *lim, const struct wb_limits *limits);
struct block_device *wb_dev_bdev(struct dm_dev *dev);
const char *wb_dev_name(struct dm_dev *dev);
int wb_iterate_device(struct dm_target *ti, iterate_devices_callout_fn fn, struct dm_dev *dev, sector_t len,
		      void *data);

#endif
