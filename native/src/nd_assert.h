/* nd_assert.h -- a broken invariant ends the process, in release builds too.
 *
 * The alternative is to deliver, or to write down, what we know to be wrong.
 */
#ifndef ND_ASSERT_H
#define ND_ASSERT_H

#include <stdlib.h>

#define ND_ASSERT(condition) ((condition) ? (void)0 : abort())

#endif /* ND_ASSERT_H */
