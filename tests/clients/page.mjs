// What a shop's page does with Segment's browser SDK and its consent wrapper, and with RudderStack's. One bundle; the test calls it.
import { AnalyticsBrowser } from '@segment/analytics-next'
import { createWrapper } from '@segment/analytics-consent-tools'
import { RudderAnalytics } from '@rudderstack/analytics-js/bundled'

const order = (name, number) => ({ order_id: `${name}-${number}`, revenue: number + 0.25, currency: 'USD' })

// Settings come from the vault, as they would from a CDN; `strategy` is how the page's own code may choose to deliver.
function start(analytics, { url, writeKey, strategy, apiHost }) {
  const own = { ...(strategy && { deliveryStrategy: strategy }), ...(apiHost && { apiHost, protocol: 'http' }) }
  const integrations = { 'Segment.io': own }
  analytics.load({ writeKey, cdnURL: url }, { integrations })
  return analytics
}

const agreed = { consent: { categoryPreferences: { functional: true, analytics: true, advertising: true } } }

window.shop = {
  // Orders without a banner: each carries the choice that the page knows.
  async orders(config) {
    const analytics = start(new AnalyticsBrowser(), config)
    await analytics.page('Shop', 'Home', {}, { context: agreed })
    for (let number = 0; number < config.events; number++) {
      analytics.track('Order Completed', order(config.name, number), { context: agreed })
      await new Promise((resolve) => setTimeout(resolve, 50)) // so that batches are several
    }
    await analytics.identify(`${config.name}-user`, { firstName: 'Ada' }, { context: agreed })
    await analytics.group(`g-${config.name}`, { name: 'Ada Ltd' }, { context: agreed })
    await analytics.screen('Shop', 'Home', {}, { context: agreed })
    await analytics.alias(`${config.name}-other`, `${config.name}-user`, { context: agreed })
    return (await analytics.user()).anonymousId()
  },

  // A banner: nothing was said, the person accepts, and later withdraws.
  async banner(config) {
    let choice = { functional: false, analytics: false, advertising: false }
    let changed = () => {}
    window.answer = (given) => {
      choice = given
      changed(choice)
    }
    const wrap = createWrapper({
      shouldLoadSegment: (context) => context.load({ consentModel: 'opt-out' }),
      getCategories: () => choice,
      registerOnConsentChanged: (callback) => { changed = callback },
    })
    const analytics = new AnalyticsBrowser()
    wrap(analytics)
    start(analytics, config)
    window.view = (name) => analytics.page('Shop', name)
    window.order = (number) => analytics.track('Order Completed', order(config.name, number))
    return (await analytics.user()).anonymousId()
  },

  // RudderStack's browser SDK, with the choice in its own form.
  async rudder(config) {
    const rudder = new RudderAnalytics()
    rudder.load(config.writeKey, config.url, {
      configUrl: config.url,
      useBeacon: config.beacon,
      beaconQueueOptions: { flushQueueInterval: 500 },
      consentManagement: {
        enabled: true,
        provider: 'custom',
        allowedConsentIds: ['functional', 'analytics', 'advertising'],
        deniedConsentIds: [],
      },
    })
    await new Promise((resolve) => rudder.ready(resolve))
    rudder.page('Shop', 'Home')
    for (let number = 0; number < config.events; number++) {
      rudder.track('Order Completed', order(config.name, number))
    }
    return rudder.getAnonymousId()
  },
}
