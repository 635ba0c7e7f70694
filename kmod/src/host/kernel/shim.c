// SPDX-License-Identifier: GPL-2.0-only
/* See shim.h. */

#include "shim.h"
#include <linux/blk-cgroup.h>
#include <linux/crc32.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/ioprio.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/overflow.h>
#include <linux/part_stat.h>
#include <linux/percpu.h>
#include <linux/platform_device.h>
#include <linux/prefetch.h>
#include <linux/random.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/suspend.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

#ifdef CONFIG_HIGHMEM
#error "dm-writeboost reaches the pages of a bio by their address, so it needs a 64-bit kernel"
#endif

void wb_event_init(struct wb_event *event)
{
	atomic_set(&event->count, 0);
	init_waitqueue_head(&event->wait);
}

/* In any context. */
void wb_event_notify(struct wb_event *event)
{
	/*
	 * A thread that sees the count must see what has happened, too: tests/cells/mod.rs has the model of
	 * this.
	 */
	smp_mb__before_atomic();
	atomic_inc(&event->count);
	/*
	 * Mostly no thread waits, and the queue's lock can be saved. A thread that is about to wait gets into
	 * the queue, has a full barrier behind that (set_current_state() in prepare_to_wait_event()), and
	 * looks at the count; here it is the other way round. So either this function sees the thread, or the
	 * thread sees the count.
	 */
	smp_mb__after_atomic();
	if (waitqueue_active(&event->wait))
		wake_up_all(&event->wait);
}

int wb_event_count(struct wb_event *event)
{
	return atomic_read_acquire(&event->count);
}

/*
 * Waits until the count differs from @seen; 0, or -ERESTARTNOHAND after a signal. A timeout is no error. The
 * freezer stops a task as by a signal: without a handler the system call begins again, and everything that is
 * waited for here can be requested again.
 */
int wb_event_wait(struct wb_event *event, int seen, unsigned int timeout_ms, enum wb_sleep sleep)
{
	unsigned long timeout = msecs_to_jiffies(timeout_ms);

	switch (sleep) {
	case WB_SLEEP_IDLE:
		wait_event_idle_timeout(event->wait,
					wb_event_count(event) != seen || kthread_should_stop(), timeout);
		return 0;
	case WB_SLEEP_BUSY:
		wait_event_timeout(event->wait, wb_event_count(event) != seen, timeout);
		return 0;
	case WB_SLEEP_INTERRUPTIBLE:
		if (wait_event_interruptible_timeout(event->wait, wb_event_count(event) != seen, timeout) < 0)
			return -ERESTARTNOHAND;
		return 0;
	}
	return 0;
}

struct task_struct *wb_thread_run(int (*fn)(void *data), void *data, const char *name)
{
	return kthread_run(fn, data, "%s", name);
}

void wb_thread_stop(struct task_struct *task)
{
	kthread_stop(task);
}

/* With @hurry the calling thread runs before other runnable threads; without, it is like them again. */
void wb_thread_hurry(bool hurry)
{
	set_user_nice(current, hurry ? MIN_NICE : 0);
}

bool wb_thread_should_stop(void)
{
	return kthread_should_stop();
}

static __always_inline void wb_bio_work_run(struct work_struct *work)
{
	struct wb_bio_work *w = container_of(work, struct wb_bio_work, work);

	/* Before this returns, the bio and @w with it may be freed, or be in a queue again. */
	w->serve(w->queue, w->bio);
}

/*
 * A function for each kind of queue. If a work with the same function comes while that function has not
 * returned from the work, the two must not run side by side, so the kernel leaves the work to the thread that
 * has it. A bio that passes from one queue to the other would then take a thread of the first queue with it.
 * When memory is short that may be the last thread of the first queue, and all bios for the cache device
 * would wait for the backing device.
 */
static noinline void wb_bio_work_check(struct work_struct *work)
{
	wb_bio_work_run(work);
}

static noinline void wb_bio_work_near(struct work_struct *work)
{
	wb_bio_work_run(work);
}

static noinline void wb_bio_work_far(struct work_struct *work)
{
	wb_bio_work_run(work);
}

static const work_func_t wb_bio_work_fns[] = {
	[WB_QUEUE_CHECK] = wb_bio_work_check,
	[WB_QUEUE_NEAR] = wb_bio_work_near,
	[WB_QUEUE_FAR] = wb_bio_work_far,
};

struct workqueue_struct *wb_queue_alloc(const char *name, unsigned int workers)
{
	return alloc_workqueue("%s", WQ_UNBOUND | WQ_MEM_RECLAIM, workers, name);
}

/* In any context. @data_size is the size of the target's own data beside each bio. */
void wb_queue_push(struct workqueue_struct *wq, enum wb_queue_kind kind, struct bio *bio, size_t data_size,
		   wb_serve_fn serve, void *queue)
{
	struct wb_bio_work *w = dm_per_bio_data(bio, data_size + sizeof(*w)) + data_size;

	w->serve = serve;
	w->queue = queue;
	w->bio = bio;
	INIT_WORK(&w->work, wb_bio_work_fns[kind]);
	queue_work(wq, &w->work);
}

void wb_queue_drain(struct workqueue_struct *wq)
{
	drain_workqueue(wq);
}

void wb_queue_free(struct workqueue_struct *wq)
{
	destroy_workqueue(wq);
}

/*
 * Hibernation. volume/sleep.rs says what is done when, and why; this part passes on the kernel's
 * notifications.
 *
 * The power management of a device is called when all tasks are frozen, and before the snapshot. Therefore
 * the module registers a device that stands for no hardware. It has nothing to do for a suspend to RAM, so
 * nothing is called then.
 *
 * There is one such device for all volumes, not one for each volume that would sleep before the disks below
 * it. The kernel keeps such an order with devices that sleep in parallel (PCI and SCSI do) only by registered
 * links, and stacked disks have none. Everything that may need many I/Os is therefore over before the first
 * device sleeps.
 */
static const struct wb_sleep_ops *wb_sleep_ops;
static struct platform_device *wb_sleep_device;
static struct workqueue_struct *wb_sleep_queue;
static bool wb_sleep_announced;
static bool wb_sleep_restored;

static void wb_sleep_over(struct work_struct *work)
{
	wb_sleep_ops->wake();
}

static DECLARE_WORK(wb_sleep_work, wb_sleep_over);

/*
 * User space is frozen, and all devices work. The message is not passed to this function; it may also be a
 * suspend to RAM.
 */
static int wb_sleep_prepare(struct device *dev)
{
	return !wb_sleep_announced || wb_sleep_ops->rest() ? 0 : -EBUSY;
}

/* A snapshot follows, or an image replaces this kernel. */
static int wb_sleep_freeze(struct device *dev)
{
	bool ok = wb_sleep_ops->sleep();

	/*
	 * The queue is frozen, and thawed with the tasks: in this kernel, when something has failed, and in
	 * the one that comes out of the image. The notifier would come too late, because there may be I/O
	 * before it that a task waits for.
	 */
	queue_work(wb_sleep_queue, &wb_sleep_work);
	return ok ? 0 : -EBUSY;
}

/* This is the kernel that was told to sleep: it has made the image, or has failed to. */
static int wb_sleep_thaw(struct device *dev)
{
	wb_sleep_ops->stay();
	return 0;
}

/*
 * This is the kernel that comes out of the image; other devices may not work yet. Not called before an image
 * is written.
 */
static int wb_sleep_restore(struct device *dev)
{
	wb_sleep_restored = true;
	return 0;
}

/* All devices work. */
static void wb_sleep_complete(struct device *dev)
{
	if (wb_sleep_restored)
		wb_sleep_ops->restored();
	wb_sleep_restored = false;
}

static const struct dev_pm_ops wb_sleep_pm = {
	.prepare = wb_sleep_prepare,
	.freeze = wb_sleep_freeze,
	.thaw = wb_sleep_thaw,
	.restore = wb_sleep_restore,
	.complete = wb_sleep_complete,
};

static struct platform_driver wb_sleep_driver = {
	.driver = { .name = "dm-writeboost", .pm = &wb_sleep_pm },
};

static int wb_sleep_notify(struct notifier_block *nb, unsigned long event, void *data)
{
	switch (event) {
	case PM_HIBERNATION_PREPARE:
	case PM_RESTORE_PREPARE:
		wb_sleep_announced = true;
		wb_sleep_ops->drowse();
		break;
	case PM_POST_HIBERNATION:
	case PM_POST_RESTORE:
		wb_sleep_announced = false;
		/* If that has failed before, nothing was frozen. */
		wb_sleep_ops->wake();
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block wb_sleep_notifier = { .notifier_call = wb_sleep_notify };

/* Passes notifications to @ops from now on. */
int wb_sleep_init(const struct wb_sleep_ops *ops)
{
	int error;

	wb_sleep_ops = ops;
	wb_sleep_queue = alloc_workqueue("wb_sleep", WQ_FREEZABLE | WQ_MEM_RECLAIM | WQ_UNBOUND, 1);
	if (!wb_sleep_queue)
		return -ENOMEM;
	error = platform_driver_register(&wb_sleep_driver);
	if (error)
		goto no_driver;
	wb_sleep_device = platform_device_register_simple("dm-writeboost", PLATFORM_DEVID_NONE, NULL, 0);
	error = PTR_ERR_OR_ZERO(wb_sleep_device);
	if (error)
		goto no_device;
	error = register_pm_notifier(&wb_sleep_notifier);
	if (!error)
		return 0;
	platform_device_unregister(wb_sleep_device);
no_device:
	platform_driver_unregister(&wb_sleep_driver);
no_driver:
	destroy_workqueue(wb_sleep_queue);
	return error;
}

void wb_sleep_exit(void)
{
	unregister_pm_notifier(&wb_sleep_notifier);
	platform_device_unregister(wb_sleep_device);
	platform_driver_unregister(&wb_sleep_driver);
	destroy_workqueue(wb_sleep_queue);
}

/*
 * Whether the current task is the one that hibernates the machine and writes the image: the only task of user
 * space that is not frozen.
 */
bool wb_task_hibernates(void)
{
	return current->flags & PF_SUSPEND_TASK;
}

/*
 * Whole pages. In one piece if possible, because a bio of them has a single vec then, and the processor needs
 * few entries of its TLB for them. Neither kvzalloc() nor kmalloc(): these take a power of two, and the pages
 * of a slab must not be sent over a network.
 */
static void *wb_pages(size_t size, gfp_t gfp)
{
	void *p = alloc_pages_exact(size, gfp | __GFP_NORETRY | __GFP_NOWARN);

	return p ?: vmalloc_huge(size, gfp);
}

void *wb_pages_alloc(size_t size)
{
	return wb_pages(size, GFP_KERNEL | __GFP_ZERO);
}

void wb_pages_free(void *p, size_t size)
{
	if (is_vmalloc_addr(p))
		vfree(p);
	else
		free_pages_exact(p, size);
}

/* For a table of @size bytes, which are not zeroed. */
void *wb_table_alloc(size_t size)
{
	return size < PAGE_SIZE ? kmalloc(size, GFP_KERNEL) : wb_pages(size, GFP_KERNEL);
}

void wb_table_free(void *p, size_t size)
{
	if (size < PAGE_SIZE)
		kfree(p);
	else
		wb_pages_free(p, size);
}

/* The usual CRC-32C; the kernel's function leaves both inversions to its callers. */
u32 wb_crc32c(u32 crc, const void *p, size_t len)
{
	return ~crc32c(~crc, p, len);
}

/*
 * @n per-processor counters, all 0, or NULL. The pointer refers to per-processor memory; only the functions
 * below can follow it.
 */
void *wb_counters_alloc(unsigned int n)
{
	u64 __percpu *c = __alloc_percpu(array_size(n, sizeof(u64)), __alignof__(u64));

	return (void *)(__force unsigned long)c;
}

void wb_counters_free(void *counters)
{
	free_percpu((u64 __percpu *)(__force unsigned long)counters);
}

/* In any context. */
void wb_counters_add(void *counters, unsigned int i, u64 n)
{
	u64 __percpu *c = (u64 __percpu *)(__force unsigned long)counters;

	this_cpu_add(c[i], n);
}

u64 wb_counters_sum(void *counters, unsigned int i)
{
	u64 __percpu *c = (u64 __percpu *)(__force unsigned long)counters;
	u64 sum = 0;
	int cpu;

	/* Processors that are offline now have counted, too. */
	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(&c[i], cpu));
	return sum;
}

void wb_prefetch(const void *p)
{
	prefetch(p);
}

void wb_random(void *p, size_t len)
{
	get_random_bytes(p, len);
}

/* Returns false if a signal ended the sleep. */
bool wb_sleep_interruptible(unsigned int ms)
{
	msleep_interruptible(ms);
	return !signal_pending(current);
}

enum wb_op wb_bio_op(const struct bio *bio)
{
	switch (bio_op(bio)) {
	case REQ_OP_READ:
		return WB_OP_READ;
	case REQ_OP_WRITE:
		/* Device-mapper splits a PREFLUSH with data: only flushes without data reach a target. */
		return bio->bi_opf & REQ_PREFLUSH ? WB_OP_FLUSH : WB_OP_WRITE;
	case REQ_OP_FLUSH:
		return WB_OP_FLUSH;
	default:
		return WB_OP_OTHER;
	}
}

bool wb_bio_is_fua(const struct bio *bio)
{
	return bio->bi_opf & REQ_FUA;
}

sector_t wb_bio_sector(const struct bio *bio)
{
	return bio->bi_iter.bi_sector;
}

unsigned int wb_bio_bytes(const struct bio *bio)
{
	return bio->bi_iter.bi_size;
}

struct bvec_iter wb_bio_iter(const struct bio *bio)
{
	return bio->bi_iter;
}

void wb_bio_remap(struct bio *bio, struct block_device *bdev, sector_t sector)
{
	bio_set_dev(bio, bdev);
	bio->bi_iter.bi_sector = sector;
}

void wb_bio_set_fua(struct bio *bio, bool fua)
{
	if (fua)
		bio->bi_opf |= REQ_FUA;
	else
		bio->bi_opf &= ~REQ_FUA;
}

/* Makes a bio that has returned, and whose data begin at @start, one for @sector again. */
void wb_bio_rewind(struct bio *bio, const struct bvec_iter *start, sector_t sector)
{
	bio->bi_iter = *start;
	bio->bi_iter.bi_sector = sector;
	bio->bi_status = BLK_STS_OK;
}

void wb_bio_set_sector(struct bio *bio, sector_t sector)
{
	bio->bi_iter.bi_sector = sector;
}

int wb_status_to_errno(blk_status_t status)
{
	return blk_status_to_errno(status);
}

blk_status_t wb_errno_to_status(int error)
{
	return errno_to_blk_status(error);
}

void wb_bio_end(struct bio *bio, int error)
{
	bio->bi_status = errno_to_blk_status(error);
	bio_endio(bio);
}

bool wb_bio_may_wait(const struct bio *bio)
{
	return !(bio->bi_opf & REQ_NOWAIT);
}

bool wb_bio_is_ahead(const struct bio *bio)
{
	return bio->bi_opf & REQ_RAHEAD;
}

/* Whether only the calling task waits when the caller takes long, as it does outside interrupts. */
bool wb_may_take_long(void)
{
	return in_task() && !irqs_disabled();
}

/*
 * Whether a bio submitted now goes to the device at once: the task has no plug, which holds bios until it is
 * done with other things, and the task is not one that others may keep from running for as long as they want.
 */
bool wb_submits_now(void)
{
	return !current->plug && current->policy != SCHED_IDLE && task_nice(current) <= 0;
}

/* Whether the target is all of its device. */
bool wb_target_is_alone(struct dm_target *ti)
{
	return ti->begin == 0 && ti->len == dm_table_get_size(ti->table);
}

/*
 * A device has returned @bio, which will be ended once more: without these flags, the block layer's
 * accounting for that device is not done twice.
 */
void wb_bio_take_back(struct bio *bio)
{
	bio_clear_flag(bio, BIO_QOS_THROTTLED);
	bio_clear_flag(bio, BIO_QOS_MERGED);
}

/*
 * We have written @len bytes of @bv: the processor may have other caches, for instructions or for other
 * addresses.
 */
static void wb_written(const struct bio_vec *bv, unsigned int len)
{
	struct page *page = bv->bv_page + bv->bv_offset / PAGE_SIZE;
	struct page *last = bv->bv_page + (bv->bv_offset + len - 1) / PAGE_SIZE;

	for (; page <= last; page++)
		flush_dcache_page(page);
}

/* Copies @len bytes between @buf and the bio at @iter, and moves @iter behind them. */
void wb_bio_copy(struct bio *bio, struct bvec_iter *iter, void *buf, unsigned int len, bool to_bio)
{
	while (len) {
		struct bio_vec bv = mp_bvec_iter_bvec(bio->bi_io_vec, *iter);
		unsigned int n = min(len, bv.bv_len);
		void *p = page_address(bv.bv_page) + bv.bv_offset;

		if (to_bio) {
			memcpy(p, buf, n);
			wb_written(&bv, n);
		} else {
			memcpy(buf, p, n);
		}
		bvec_iter_advance(bio->bi_io_vec, iter, n);
		buf += n;
		len -= n;
	}
}

u32 wb_bio_crc32c(struct bio *bio, struct bvec_iter *iter, unsigned int len, u32 crc)
{
	while (len) {
		struct bio_vec bv = mp_bvec_iter_bvec(bio->bi_io_vec, *iter);
		unsigned int n = min(len, bv.bv_len);

		crc = wb_crc32c(crc, page_address(bv.bv_page) + bv.bv_offset, n);
		bvec_iter_advance(bio->bi_io_vec, iter, n);
		len -= n;
	}
	return crc;
}

struct bio *wb_bio_next(struct bio *bio)
{
	return bio->bi_next;
}

void wb_bio_set_next(struct bio *bio, struct bio *next)
{
	bio->bi_next = next;
}

int wb_bio_set_init(struct bio_set *bs, unsigned int pool_size)
{
	return bioset_init(bs, pool_size, offsetof(struct wb_own_bio, bio), BIOSET_NEED_BVECS);
}

void wb_bio_set_exit(struct bio_set *bs)
{
	bioset_exit(bs);
}

/*
 * The ends of I/O that are under way. An end gives away the reference that keeps the volume alive (a bio of a
 * user, the reference of a bio of our own) and is not over then. The volume must wait for it before it is
 * freed, in whatever context the end runs.
 *
 * Sleepable RCU, and neither plain RCU nor a count of references. Plain RCU is cheaper by two barriers. But
 * code that is called at an end within plain RCU (a file system, by bio_in_atomic()) would conclude that it
 * must not sleep, and would take a long detour. A count would be one cache line that all processors write to
 * at each end; sleepable RCU has one per processor. And a last reference that is put in an interrupt would
 * have to be passed on to a context that may sleep, because the volume's memory cannot be freed in an
 * interrupt.
 */
DEFINE_STATIC_SRCU(wb_ends);

/* In any context; wb_end_over() is called in the same one. */
int wb_end_begin(void)
{
	return srcu_read_lock(&wb_ends);
}

void wb_end_over(int idx)
{
	srcu_read_unlock(&wb_ends, idx);
}

/* Waits until all ends that have begun are over. */
void wb_synchronize(void)
{
	synchronize_srcu(&wb_ends);
}

static void wb_own_bio_end(struct bio *bio)
{
	struct wb_own_bio *own = container_of(bio, struct wb_own_bio, bio);
	wb_end_fn end = own->end;
	void *data = own->data;
	unsigned long tag = own->tag;
	const void *sent_to = own->sent_to;
	int error = blk_status_to_errno(bio->bi_status);
	int idx;

	bio_put(bio);
	/*
	 * The reference in @data must not be the last one here, because this context must not sleep: see
	 * wb_synchronize().
	 */
	idx = wb_end_begin();
	end(data, tag, sent_to, error);
	wb_end_over(idx);
}

static struct bio *wb_own_bio(struct bio_set *bs, struct block_device *bdev, unsigned int nr_vecs,
			      blk_opf_t opf, wb_end_fn end, void *data, unsigned long tag,
			      const void *sent_to)
{
	/* From a mempool: this may wait but does not fail. */
	struct bio *bio = bio_alloc_bioset(bdev, nr_vecs, opf, GFP_NOIO, bs);
	struct wb_own_bio *own = container_of(bio, struct wb_own_bio, bio);

	/*
	 * The bio may hold data of any task, so neither the limits nor the priority of the task that sends it
	 * apply.
	 */
	bio_associate_blkg_from_css(bio, blkcg_root_css);
	bio->bi_ioprio = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, IOPRIO_BE_NORM);
	own->end = end;
	own->data = data;
	own->tag = tag;
	own->sent_to = sent_to;
	bio->bi_end_io = wb_own_bio_end;
	return bio;
}

/*
 * Flags for a bio that a task waits for. blk-wbt does not hold such a bio back while reads of the device are
 * slow, as for a write with O_DIRECT, which has both flags. One of them is not enough.
 */
#define WB_OPF_AWAITED (REQ_SYNC | REQ_IDLE)

/*
 * One bio for @len bytes at @buf, within wb_pages_alloc(); at most BIO_MAX_VECS pages. In a thread, not in
 * map. No task waits for a write in the @background.
 */
void wb_bio_submit(struct bio_set *bs, struct block_device *bdev, sector_t sector, void *buf,
		   unsigned int len, bool write, bool fua, bool background, wb_end_fn end, void *data,
		   unsigned long tag, const void *sent_to)
{
	blk_opf_t opf = REQ_OP_READ;
	bool scattered = is_vmalloc_addr(buf);
	unsigned int vecs = scattered ? DIV_ROUND_UP(offset_in_page(buf) + len, PAGE_SIZE) : 1;
	struct bio *bio;

	if (write)
		opf = REQ_OP_WRITE | (background ? REQ_IDLE : WB_OPF_AWAITED) | (fua ? REQ_FUA : 0);
	bio = wb_own_bio(bs, bdev, vecs, opf, end, data, tag, sent_to);
	bio->bi_iter.bi_sector = sector;
	while (len) {
		unsigned int n = scattered ? min_t(unsigned int, len, PAGE_SIZE - offset_in_page(buf)) : len;
		struct page *page = scattered ? vmalloc_to_page(buf) : virt_to_page(buf);

		/* There is a vec for each piece, so it cannot fail. */
		__bio_add_page(bio, page, n, offset_in_page(buf));
		buf += n;
		len -= n;
	}
	submit_bio(bio);
}

void wb_bio_submit_flush(struct bio_set *bs, struct block_device *bdev, bool background, wb_end_fn end,
			 void *data, unsigned long tag, const void *sent_to)
{
	blk_opf_t opf = REQ_OP_WRITE | REQ_PREFLUSH | (background ? REQ_SYNC : WB_OPF_AWAITED);

	submit_bio(wb_own_bio(bs, bdev, 0, opf, end, data, tag, sent_to));
}

sector_t wb_bdev_sectors(struct block_device *bdev)
{
	return bdev_nr_sectors(bdev);
}

unsigned int wb_bdev_logical_block_size(struct block_device *bdev)
{
	return bdev_logical_block_size(bdev);
}

bool wb_bdev_is_zoned(struct block_device *bdev)
{
	return bdev_is_zoned(bdev);
}

bool wb_bdev_is_read_only(struct block_device *bdev)
{
	return bdev_read_only(bdev);
}

/*
 * The limits that @bdev alone gives a device that is stacked on it; sleeps. As dm_set_device_limits() does
 * it.
 */
struct wb_limits wb_bdev_limits(struct block_device *bdev)
{
	struct request_queue *q = bdev_get_queue(bdev);
	struct queue_limits lim;

	blk_set_stacking_limits(&lim);
	mutex_lock(&q->limits_lock);
	blk_stack_limits(&lim, &q->limits, get_start_sect(bdev));
	mutex_unlock(&q->limits_lock);
	return (struct wb_limits) {
		.logical_block_size = lim.logical_block_size,
		.physical_block_size = lim.physical_block_size,
		.alignment_offset = lim.alignment_offset,
		.io_min = lim.io_min,
		.io_opt = lim.io_opt,
		.chunk_sectors = lim.chunk_sectors,
		.max_hw_sectors = lim.max_hw_sectors,
		.max_dev_sectors = lim.max_dev_sectors,
		.max_user_sectors = lim.max_user_sectors,
		.misaligned = lim.flags & BLK_FLAG_MISALIGNED,
		.rotational = lim.features & BLK_FEAT_ROTATIONAL,
		.stable_writes = lim.features & BLK_FEAT_STABLE_WRITES,
		.stripes = lim.features & BLK_FEAT_RAID_PARTIAL_STRIPES_EXPENSIVE,
	};
}

/* Limits that are not in @limits stay as device-mapper has stacked them, of all devices of the target. */
void wb_target_set_limits(struct queue_limits *lim, const struct wb_limits *limits)
{
	lim->logical_block_size = limits->logical_block_size;
	lim->physical_block_size = limits->physical_block_size;
	lim->alignment_offset = limits->alignment_offset;
	lim->io_min = limits->io_min;
	lim->io_opt = limits->io_opt;
	lim->chunk_sectors = limits->chunk_sectors;
	lim->max_hw_sectors = limits->max_hw_sectors;
	lim->max_dev_sectors = limits->max_dev_sectors;
	lim->max_user_sectors = limits->max_user_sectors;
	lim->flags &= ~BLK_FLAG_MISALIGNED;
	if (limits->misaligned)
		lim->flags |= BLK_FLAG_MISALIGNED;
	lim->features &= ~(BLK_FEAT_ROTATIONAL | BLK_FEAT_STABLE_WRITES |
			   BLK_FEAT_RAID_PARTIAL_STRIPES_EXPENSIVE);
	if (limits->rotational)
		lim->features |= BLK_FEAT_ROTATIONAL;
	if (limits->stable_writes)
		lim->features |= BLK_FEAT_STABLE_WRITES;
	if (limits->stripes)
		lim->features |= BLK_FEAT_RAID_PARTIAL_STRIPES_EXPENSIVE;
}

/*
 * How long the whole disk has had something to do since boot. The utilisation that iostat shows is the
 * increase of this number.
 */
unsigned int wb_bdev_busy_ms(struct block_device *bdev)
{
	return jiffies_to_msecs(part_stat_read(bdev, io_ticks));
}

u64 wb_now_ms(void)
{
	return ktime_to_ms(ktime_get());
}

/*
 * Whether @bdev accepts @bio as it lies in memory, in pieces if need be. Otherwise it refuses it: see
 * bio_split_io_at(), which cuts a bio only where whole logical blocks end.
 */
bool wb_bio_fits(struct bio *bio, struct block_device *bdev)
{
	const struct queue_limits *lim = &bdev_get_queue(bdev)->limits;
	unsigned int done = 0, pieces = 0, end = 0;
	struct bvec_iter iter;
	struct bio_vec bv;

	bio_for_each_bvec(bv, bio, iter) {
		if ((bv.bv_offset | bv.bv_len) & lim->dma_alignment)
			return false;
		if (done & (lim->logical_block_size - 1)) {
			if ((bv.bv_offset | end) & lim->virt_boundary_mask || pieces >= lim->max_segments)
				return false;
		} else {
			pieces = 0;
		}
		pieces++;
		done += bv.bv_len;
		end = bv.bv_offset + bv.bv_len;
	}
	return true;
}

void wb_bio_skip(struct bio *bio, struct bvec_iter *iter, unsigned int len)
{
	bvec_iter_advance(bio->bi_io_vec, iter, len);
}

blk_mode_t wb_target_mode(struct dm_target *ti)
{
	return dm_table_get_mode(ti->table);
}

sector_t wb_target_offset(struct dm_target *ti, sector_t sector)
{
	return dm_target_offset(ti, sector);
}

/* Sets the features of every target of this module. @per_io_data_size includes WB_BIO_WORK_SIZE. */
void wb_target_init(struct dm_target *ti, unsigned int per_io_data_size)
{
	ti->num_flush_bios = 1;
	ti->flush_supported = true;
	ti->limit_swap_bios = true;
	ti->per_io_data_size = per_io_data_size;
}

struct block_device *wb_dev_bdev(struct dm_dev *dev)
{
	return dev->bdev;
}

const char *wb_dev_name(struct dm_dev *dev)
{
	return dev->name;
}

int wb_iterate_device(struct dm_target *ti, iterate_devices_callout_fn fn, struct dm_dev *dev, sector_t len,
		      void *data)
{
	return fn(ti, dev, 0, len, data);
}
