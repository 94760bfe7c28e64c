// @rudderstack/rudder-sdk-node, as a shop's server uses it: node rudder.cjs URL WRITE_KEY PEOPLE EVENTS
const RudderAnalytics = require('@rudderstack/rudder-sdk-node')

const [dataPlaneUrl, writeKey, people, events] = process.argv.slice(2)
const analytics = new RudderAnalytics(writeKey, { dataPlaneUrl, flushAt: 15, logLevel: 'error' })
const context = { consent: { categoryPreferences: { functional: true, analytics: true, advertising: true } } }

async function main() {
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
  while (analytics.queue.length) await analytics.flush() // one batch a call
}
main().then(() => analytics.flush())
