// @segment/analytics-node, as a shop's server uses it: node segment.mjs URL WRITE_KEY PEOPLE EVENTS
import { Analytics } from '@segment/analytics-node'

const [host, writeKey, people, events] = process.argv.slice(2)
const analytics = new Analytics({ writeKey, host, flushAt: 15 })
analytics.on('error', (error) => console.error(error))
const context = { consent: { categoryPreferences: { functional: true, analytics: true, advertising: true } } }

for (let number = 0; number < Number(events); number++) {
  analytics.track({
    userId: `${people}-${number % 5}`,
    event: 'Order Completed',
    properties: { order_id: `${people}-${number}`, revenue: number + 0.25, currency: 'USD' },
    context,
  })
}
const userId = `${people}-0`
analytics.identify({ userId, traits: { email: `${userId}@example.com`, firstName: 'Ada' }, context })
analytics.page({ userId, name: 'Home', category: 'Shop', properties: { url: 'https://shop.example/' }, context })
analytics.screen({ userId, name: 'Home', context })
analytics.group({ userId, groupId: `g-${people}`, traits: { name: 'Ada Ltd', plan: 'gold' }, context })
analytics.alias({ userId, previousId: `before-${people}`, context })
await analytics.closeAndFlush({ timeout: 60_000 })
