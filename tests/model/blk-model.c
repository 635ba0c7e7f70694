// SPDX-License-Identifier: GPL-2.0-only
/*
 * blk-model: a block device /dev/model in RAM that takes as long as a device of some kind would.
 *
 *	insmod blk-model.ko mib=2048 [PARAMETER=VALUE ...]
 *
 * What the parameters say makes it one of these; docs/benchmarks.md has those that the benchmark uses, and
 * what was measured of them.
 *
 * A disk (the default) does one thing after the other. What it costs to get somewhere depends on how far that
 * is:
 *  - right behind what it did last: nothing;
 *  - up to a track further on: the time in which that passes below the head;
 *  - anything else: a seek, settle_us and up to seek_us with the square root of the distance, and then
 *    waiting for the sector: half a turn of turn_us, less when the disk has many requests to choose from (an
 *    eighth of them is so near that getting there takes no longer than to the nearest).
 * Then the data, at mbps. It takes the nearest of what it has first, but nothing waits for longer than half a
 * second because of that. Of writes it acknowledges so many as it can hold (cached) before it does them, and
 * a flush does all of these first and then takes flush_us.
 *
 * A shingled disk (zone_mib) can write to a zone only from its beginning on. Other writes go to a media cache
 * of media_mib, one behind the other. When that is full, or after a second with nothing to do, a zone is
 * read, merged and written anew, which nothing interrupts.
 *
 * With parallel=1 each request takes latency_us, as many at a time as there are tags, and all of them share a
 * way of mbps: an array of disks behind a controller whose cache does not need flushing, or a volume on a
 * network.
 *
 * Data are copied when a request is sent, so that there is nothing to lose here: this is about time.
 */

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/hrtimer.h>
#include <linux/math.h>
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#define CHUNK_ORDER 8
#define CHUNK_BYTES (PAGE_SIZE << CHUNK_ORDER)
/* Nothing waits for longer because others are nearer. */
#define FAIR_NS (500 * NSEC_PER_MSEC)
/* A shingled disk puts its zones in order when it had nothing to do for so long. */
#define IDLE_NS NSEC_PER_SEC

#define PARAM(type, name, value, text)	\
	static type name = value;	\
	module_param(name, type, 0444);	\
	MODULE_PARM_DESC(name, text)

PARAM(uint, mib, 1024, "size");
PARAM(uint, tags, 32, "requests that it takes at a time");
PARAM(uint, mbps, 150, "MB/s of the medium or of the way to it");
PARAM(uint, flush_us, 10000, "us of a flush");
PARAM(uint, settle_us, 500, "us of the shortest seek");
PARAM(uint, seek_us, 16000, "us of the longest seek");
PARAM(uint, turn_us, 8333, "us of a turn");
PARAM(uint, track_kib, 1024, "KiB of a track");
PARAM(uint, cached, 64, "writes that are acknowledged before they are done");
PARAM(uint, zone_mib, 0, "MiB of a zone of a shingled disk; 0 for no such disk");
PARAM(uint, media_mib, 64, "MiB of a shingled disk's media cache");
PARAM(bool, parallel, false, "whether requests do not wait for each other");
PARAM(uint, latency_us, 5000, "us of each request, when they are parallel");

/* Something to do. */
struct job {
	struct list_head list;
	/* NULL when it was acknowledged. */
	struct request *rq;
	u64 sector;
	u32 sectors;
	bool write;
	ktime_t came;
};

/* Of each request. */
struct per_request {
	struct job job;
	struct hrtimer timer;
};

struct model_zone {
	/* Sectors from its beginning that were written one after the other. */
	u32 pointer;
	/* Sectors of it in the media cache. */
	u32 apart;
};

static struct {
	spinlock_t lock;
	struct gendisk *disk;
	struct blk_mq_tag_set set;
	void **chunks;
	u64 capacity;

	/* What waits, in the order in which it came; flushes by themselves. */
	struct list_head jobs;
	struct list_head flushes;
	unsigned int waiting;
	/* For writes that are acknowledged. */
	struct job *pool;
	struct list_head unused;
	unsigned int acknowledged;
	/* What is being done; NULL when it is idle or puts a zone in order. */
	struct job *current_job;
	bool busy;
	struct hrtimer timer;
	/* Behind what was done last, in sectors. The media cache lies behind the capacity. */
	u64 head;

	struct model_zone *zones;
	u32 zone_sectors;
	u64 media_sectors;
	u64 media_used;

	/* When the way is free, with parallel. */
	ktime_t free_at;
} m;

static u64 transfer_ns(u64 bytes)
{
	return div_u64(bytes * 1000, mbps ?: 1);
}

/* What it costs to get from the head to @to, with so many to choose from. */
static u64 position_ns(u64 to, unsigned int choice)
{
	u64 distance = to > m.head ? to - m.head : m.head - to;
	u64 seek, root;

	if (!distance)
		return 0;
	/* The root of the part of all that there is, in 1/1024. */
	root = int_sqrt64(div64_u64(distance << 20, m.capacity + m.media_sectors));
	seek = (settle_us + (((u64)seek_us - min(settle_us, seek_us)) * root >> 10)) * NSEC_PER_USEC;
	seek += (u64)turn_us * NSEC_PER_USEC / (2 + choice / 8);
	if (to > m.head && distance <= (u64)track_kib * 2)
		seek = min(seek, transfer_ns(distance << SECTOR_SHIFT));
	return seek;
}

/* Moves the head there and over @sectors. */
static u64 do_ns(u64 to, u64 sectors, unsigned int choice)
{
	u64 ns = position_ns(to, choice) + transfer_ns(sectors << SECTOR_SHIFT);

	m.head = to + sectors;
	return ns;
}

/* Puts the zone in order that has most in the media cache; says how long that takes. */
static u64 order_zone_ns(void)
{
	u32 zone, best = 0, nr = div_u64(m.capacity, m.zone_sectors);
	u64 start, ns;

	for (zone = 1; zone < nr; zone++)
		if (m.zones[zone].apart > m.zones[best].apart)
			best = zone;
	start = (u64)best * m.zone_sectors;
	/* What of it is in the media cache is read from there, then all of it, and it is written. */
	ns = do_ns(m.capacity, m.zones[best].apart, 0);
	ns += do_ns(start, m.zone_sectors, 0);
	ns += do_ns(start, m.zone_sectors, 0);
	m.media_used -= min(m.media_used, (u64)m.zones[best].apart);
	m.zones[best].apart = 0;
	m.zones[best].pointer = m.zone_sectors;
	return ns;
}

/* A write to a shingled disk. */
static u64 shingled_ns(struct job *job)
{
	u64 sector = job->sector, left = job->sectors, ns = 0;

	while (left) {
		struct model_zone *zone = &m.zones[div_u64(sector, m.zone_sectors)];
		u32 at, n;

		div_u64_rem(sector, m.zone_sectors, &at);
		n = min_t(u64, left, m.zone_sectors - at);
		if (at == zone->pointer || at == 0) {
			ns += do_ns(sector, n, 0);
			zone->pointer = at + n;
		} else {
			while (m.media_used + n > m.media_sectors)
				ns += order_zone_ns();
			ns += do_ns(m.capacity + m.media_used, n, 0);
			m.media_used += n;
			zone->apart += n;
		}
		sector += n;
		left -= n;
	}
	return ns;
}

/* The next thing to do, if there is any that may be done now. */
static struct job *choose(void)
{
	bool flushing = !list_empty(&m.flushes);
	struct job *job, *best = NULL;
	u64 nearest = U64_MAX;

	if (flushing && !m.acknowledged)
		return list_first_entry(&m.flushes, struct job, list);
	list_for_each_entry(job, &m.jobs, list) {
		u64 distance = job->sector > m.head ? job->sector - m.head : m.head - job->sector;

		if (flushing && job->rq)
			continue;
		if (!best && ktime_sub(ktime_get(), job->came) > FAIR_NS)
			return job;
		if (distance < nearest) {
			nearest = distance;
			best = job;
		}
	}
	return best;
}

/* Begins with what is next. If there is nothing, a zone is put in order after @idle_ns. Under the lock. */
static void begin(u64 idle_ns)
{
	struct job *job = choose();
	u64 ns;

	m.current_job = job;
	m.busy = job;
	if (!job) {
		if (m.zones && m.media_used)
			hrtimer_start(&m.timer, idle_ns, HRTIMER_MODE_REL);
		return;
	}
	list_del(&job->list);
	if (job->rq && req_op(job->rq) == REQ_OP_FLUSH) {
		ns = (u64)flush_us * NSEC_PER_USEC;
	} else {
		ns = m.zones && job->write ? shingled_ns(job) : do_ns(job->sector, job->sectors, m.waiting);
		m.waiting--;
	}
	hrtimer_start(&m.timer, ns, HRTIMER_MODE_REL);
}

/*
 * A place for a write that is acknowledged; NULL if there is none. While a flush waits there is none, or the
 * flush would wait for ever.
 */
static struct job *acknowledge(struct job *from)
{
	struct job *job;

	if (!from->write || !list_empty(&m.flushes) || list_empty(&m.unused))
		return NULL;
	job = list_first_entry(&m.unused, struct job, list);
	list_del(&job->list);
	job->sector = from->sector;
	job->sectors = from->sectors;
	job->write = true;
	job->came = from->came;
	job->rq = NULL;
	m.acknowledged++;
	return job;
}

/* Acknowledges one more write of those that wait. Under the lock. */
static struct request *acknowledge_one(void)
{
	struct job *job, *held;

	list_for_each_entry(job, &m.jobs, list) {
		struct request *rq = job->rq;

		if (!rq)
			continue;
		held = acknowledge(job);
		if (held) {
			list_replace(&job->list, &held->list);
			return rq;
		}
		if (job->write)
			break;
	}
	return NULL;
}

static enum hrtimer_restart timer_fn(struct hrtimer *timer)
{
	struct request *done = NULL, *rq;
	unsigned long flags;

	spin_lock_irqsave(&m.lock, flags);
	if (m.current_job) {
		done = m.current_job->rq;
		if (!done) {
			list_add(&m.current_job->list, &m.unused);
			m.acknowledged--;
		}
		m.current_job = NULL;
		begin(IDLE_NS);
	} else if (m.busy) {
		/* A zone is in order; if nobody wants anything, the next one follows. */
		begin(0);
	} else if (m.media_used) {
		m.busy = true;
		hrtimer_start(&m.timer, order_zone_ns(), HRTIMER_MODE_REL);
	}
	rq = acknowledge_one();
	spin_unlock_irqrestore(&m.lock, flags);
	if (done)
		blk_mq_end_request(done, BLK_STS_OK);
	while (rq) {
		blk_mq_end_request(rq, BLK_STS_OK);
		spin_lock_irqsave(&m.lock, flags);
		rq = acknowledge_one();
		spin_unlock_irqrestore(&m.lock, flags);
	}
	return HRTIMER_NORESTART;
}

static enum hrtimer_restart parallel_fn(struct hrtimer *timer)
{
	struct per_request *p = container_of(timer, struct per_request, timer);

	blk_mq_end_request(blk_mq_rq_from_pdu(p), BLK_STS_OK);
	return HRTIMER_NORESTART;
}

static void copy(struct request *rq)
{
	u64 at = blk_rq_pos(rq) << SECTOR_SHIFT;
	struct req_iterator iter;
	struct bio_vec bv;

	rq_for_each_segment(bv, rq, iter) {
		void *to = bvec_kmap_local(&bv);
		u32 done = 0;

		while (done < bv.bv_len) {
			u32 offset = at & (CHUNK_BYTES - 1);
			u32 n = min_t(u32, bv.bv_len - done, CHUNK_BYTES - offset);
			void *from = m.chunks[at / CHUNK_BYTES] + offset;

			if (rq_data_dir(rq) == WRITE)
				memcpy(from, to + done, n);
			else
				memcpy(to + done, from, n);
			done += n;
			at += n;
		}
		kunmap_local(to);
	}
}

static void send_parallel(struct request *rq, struct per_request *p)
{
	ktime_t now = ktime_get(), due;
	unsigned long flags;

	spin_lock_irqsave(&m.lock, flags);
	due = max(now, m.free_at) + transfer_ns(blk_rq_bytes(rq));
	m.free_at = due;
	spin_unlock_irqrestore(&m.lock, flags);
	due += (u64)(req_op(rq) == REQ_OP_FLUSH ? flush_us : latency_us) * NSEC_PER_USEC;
	hrtimer_setup(&p->timer, parallel_fn, CLOCK_MONOTONIC, HRTIMER_MODE_ABS);
	hrtimer_start(&p->timer, due, HRTIMER_MODE_ABS);
}

static void send_disk(struct request *rq, struct job *job)
{
	struct job *held = NULL;
	unsigned long flags;

	*job = (struct job) {
		.rq = rq,
		.sector = blk_rq_pos(rq),
		.sectors = blk_rq_sectors(rq),
		.write = req_op(rq) == REQ_OP_WRITE,
		.came = ktime_get(),
	};
	spin_lock_irqsave(&m.lock, flags);
	if (req_op(rq) == REQ_OP_FLUSH) {
		list_add_tail(&job->list, &m.flushes);
	} else {
		held = acknowledge(job);
		list_add_tail(held ? &held->list : &job->list, &m.jobs);
		m.waiting++;
	}
	if (!m.busy)
		begin(IDLE_NS);
	spin_unlock_irqrestore(&m.lock, flags);
	if (held)
		blk_mq_end_request(rq, BLK_STS_OK);
}

static blk_status_t queue_rq(struct blk_mq_hw_ctx *hctx, const struct blk_mq_queue_data *bd)
{
	struct request *rq = bd->rq;
	struct per_request *p = blk_mq_rq_to_pdu(rq);

	blk_mq_start_request(rq);
	switch (req_op(rq)) {
	case REQ_OP_READ:
	case REQ_OP_WRITE:
		copy(rq);
		break;
	case REQ_OP_FLUSH:
		break;
	default:
		return BLK_STS_NOTSUPP;
	}
	if (parallel)
		send_parallel(rq, p);
	else
		send_disk(rq, &p->job);
	return BLK_STS_OK;
}

static const struct blk_mq_ops ops = {
	.queue_rq = queue_rq,
};

static const struct block_device_operations fops = {
	.owner = THIS_MODULE,
};

static void free_all(void)
{
	unsigned int i;

	for (i = 0; m.chunks && i < mib; i++)
		if (m.chunks[i])
			free_pages((unsigned long)m.chunks[i], CHUNK_ORDER);
	kvfree(m.chunks);
	kvfree(m.zones);
	kfree(m.pool);
}

static int alloc_all(void)
{
	unsigned int i;

	BUILD_BUG_ON(CHUNK_BYTES != 1 << 20);
	m.capacity = (u64)mib << 11;
	m.chunks = kvcalloc(mib, sizeof(*m.chunks), GFP_KERNEL);
	m.pool = kcalloc(cached + 1, sizeof(*m.pool), GFP_KERNEL);
	if (!m.chunks || !m.pool)
		return -ENOMEM;
	for (i = 0; i < cached; i++)
		list_add_tail(&m.pool[i].list, &m.unused);
	for (i = 0; i < mib; i++) {
		m.chunks[i] = (void *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, CHUNK_ORDER);
		if (!m.chunks[i])
			return -ENOMEM;
	}
	if (zone_mib) {
		m.zone_sectors = zone_mib << 11;
		m.media_sectors = (u64)media_mib << 11;
		m.zones = kvcalloc(DIV_ROUND_UP(mib, zone_mib), sizeof(*m.zones), GFP_KERNEL);
		if (!m.zones)
			return -ENOMEM;
	}
	return 0;
}

static int __init model_init(void)
{
	struct queue_limits lim = {
		.logical_block_size = 512,
		.physical_block_size = 4096,
		.max_hw_sectors = 2560,
		.features = parallel ? 0 : BLK_FEAT_ROTATIONAL,
	};
	int error;

	/* The media cache takes any request. */
	if (!mib || !tags || (zone_mib && (mib % zone_mib || media_mib < 2)) || zone_mib > 1024)
		return -EINVAL;
	if (flush_us)
		lim.features |= BLK_FEAT_WRITE_CACHE;
	spin_lock_init(&m.lock);
	INIT_LIST_HEAD(&m.jobs);
	INIT_LIST_HEAD(&m.flushes);
	INIT_LIST_HEAD(&m.unused);
	hrtimer_setup(&m.timer, timer_fn, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	error = alloc_all();
	if (error)
		goto free;
	m.set.ops = &ops;
	m.set.nr_hw_queues = 1;
	m.set.queue_depth = tags;
	m.set.cmd_size = sizeof(struct per_request);
	m.set.numa_node = NUMA_NO_NODE;
	error = blk_mq_alloc_tag_set(&m.set);
	if (error)
		goto free;
	m.disk = blk_mq_alloc_disk(&m.set, &lim, NULL);
	if (IS_ERR(m.disk)) {
		error = PTR_ERR(m.disk);
		goto free_set;
	}
	m.disk->fops = &fops;
	m.disk->flags |= GENHD_FL_NO_PART;
	strscpy(m.disk->disk_name, "model", DISK_NAME_LEN);
	set_capacity(m.disk, m.capacity);
	error = add_disk(m.disk);
	if (error)
		goto put;
	return 0;
put:
	put_disk(m.disk);
free_set:
	blk_mq_free_tag_set(&m.set);
free:
	free_all();
	return error;
}

static void __exit model_exit(void)
{
	del_gendisk(m.disk);
	/* What was acknowledged may still be under way. */
	hrtimer_cancel(&m.timer);
	put_disk(m.disk);
	blk_mq_free_tag_set(&m.set);
	free_all();
}

module_init(model_init);
module_exit(model_exit);
MODULE_DESCRIPTION("a block device that takes as long as another kind of device, "
		   "for the benchmark of dm-writeboost");
MODULE_LICENSE("GPL");
