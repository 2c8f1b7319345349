// Threads that wait for work: they spin for a moment, then sleep. They know nothing of what they run.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>

namespace camelid {

// Work on items [begin, end) as worker `worker`, 0 … threads - 1. Must not throw.
using Work = std::function<void(int64_t begin, int64_t end, int worker)>;

class Pool {
public:
    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int threads() const { return threads_; }

    // Run `work` over [0, items), `chunk` at a time, on the calling thread and on whichever others are free; return when all is done.
    // Callers from several threads take turns. Threads start with the first call, and again in a forked child.
    void run(int64_t items, int64_t chunk, const Work& work);

private:
    struct Crew;
    void man();

    const int threads_;
    std::mutex turn_;
    std::unique_ptr<Crew> crew_;
    int64_t owner_ = 0;  // the process that the crew lives in
};

}  // namespace camelid
